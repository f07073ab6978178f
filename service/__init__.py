"""The HTTP service: live domains, activation, state, routes."""
