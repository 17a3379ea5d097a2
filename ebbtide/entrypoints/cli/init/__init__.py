"""`ebbtide init`: from what is there to a system file."""
