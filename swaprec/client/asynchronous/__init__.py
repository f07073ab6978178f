"""The client, twice: `asynchronous` is written by hand, `sync` is generated from it."""
