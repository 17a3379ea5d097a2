"""A system of nothing but size: a table of many rows, features of many files, a small model."""
