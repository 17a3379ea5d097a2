"""ebbtide rolls a whole AI system back after a bad deployment."""

__version__ = "0.1.0"
