"""Tables in Delta Lake."""
