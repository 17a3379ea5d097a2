"""What is there already, for a system file that has yet to be written."""
