"""The outside world, one vendor a file. Heavy imports stay inside functions."""
