"""Compensatable tasks: one file for each layer or projection."""
