"""Ride pricing: a small, whole AI system with a published incident built in."""
