"""The HTTP side of calling a base service: one call is one HTTP request."""
