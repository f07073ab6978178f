"""A catalog as it is searched: base, delta, index."""
