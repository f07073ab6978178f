# Generated from ../asynchronous by `make fix`: change that one.
"""The client, twice: `asynchronous` is written by hand, `sync` is generated from it."""
