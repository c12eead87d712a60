"""A chat that shows the whole handshake, for ``twistd -n stompauth --demo``."""
