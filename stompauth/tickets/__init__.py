"""One-time secrets that open a WebSocket."""
