"""A soak: hundreds of sessions that begin, break off and end in every way, for minutes.

``python -m tests.soak --minutes 10 --sessions 300`` runs a server in a process of its own, lets
clients loose on it, waits until all is quiet, and compares what the server holds with what it held
before: sessions, timers, descriptors, memory. Everything happens on 127.0.0.1. It needs Linux.
"""
