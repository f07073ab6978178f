"""Versions loaded, items embedded and bases built, in this process or in the worker process."""
