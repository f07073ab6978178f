"""The client: this package is written by hand, its twin without `async` is generated from it."""
