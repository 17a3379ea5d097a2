"""Where side effects go."""
