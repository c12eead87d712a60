"""What an operator asks a running server: whether it is up, whether it is ready, what it does."""
