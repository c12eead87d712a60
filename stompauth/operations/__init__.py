"""The operations page: who is here and what happens, for those who run the server."""
