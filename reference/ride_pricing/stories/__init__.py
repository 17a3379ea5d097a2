"""The incidents that can be played, one module for each."""
