"""The HTTP API: JSON and problems in and out, events as SSE; whatever is decided is decided below it."""
