"""The door: command line, Python client, demo."""
