"""Application handlers: Python functions behind ``/app/**``."""
