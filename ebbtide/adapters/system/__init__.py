"""The system file, and what it may name."""
