"""STOMP 1.0, 1.1 and 1.2 without I/O: bytes in, frames out, and the other way round.

Standard library only; time is an argument.
"""
