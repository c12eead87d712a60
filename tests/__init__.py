"""The tests: trial classes without a reactor here, real parts in tests/integration."""
