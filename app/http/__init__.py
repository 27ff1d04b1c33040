"""What the HTTP surfaces of both processes share: bodies, errors, middleware, streams. Knows no routes."""
