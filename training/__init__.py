"""Data, loop, evaluation: from interaction logs to bundles."""
