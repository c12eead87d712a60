"""Fuzzing: what peers send, made up from octets.

Each module of :data:`tests.fuzz.driver.TARGETS` has a function ``run(octets)``. It makes something
that a peer could send out of the octets, lets the server have it, and raises if the server does
what it never may. The same octets always mean the same.
"""
