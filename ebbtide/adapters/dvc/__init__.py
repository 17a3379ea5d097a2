"""Features that a DVC pipeline makes."""
