"""The network: item encoders, user encoder, adapters, metrics.

Torch only; no store, no HTTP, no state.
"""
