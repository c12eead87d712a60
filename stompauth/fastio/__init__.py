"""Fast I/O."""
