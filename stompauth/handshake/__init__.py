"""From an HTTP request to an open WebSocket."""
