"""Two nodes, HAProxy, Redis and RabbitMQ, each of which is killed while clients are at work.

``python -m tests.faults --seconds 600 --clients 200`` prints a report, and fails if anything was
lost or is left.
"""
