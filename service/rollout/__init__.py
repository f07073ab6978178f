"""A version goes live and comes back."""
