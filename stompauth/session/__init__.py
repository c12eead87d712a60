"""One client's life, from CONNECT to the end."""
