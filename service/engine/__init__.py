"""The user encoder, its queue and its table of adapters."""
