"""Folders and links that survive a crash, and are what they were when they were made."""
