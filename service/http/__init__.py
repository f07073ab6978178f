"""The doors: protocol, middleware, authentication, routes and the OpenAPI document."""
