"""A benchmark: what the server's work costs, in its own CPU time and memory, beside other servers.

``python -m tests.bench`` runs it, and prints a table. Everything happens on 127.0.0.1. It needs
Linux. docs/performance.md says how to read what comes out.
"""
