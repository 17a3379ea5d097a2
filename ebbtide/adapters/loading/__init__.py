"""A release in memory."""
