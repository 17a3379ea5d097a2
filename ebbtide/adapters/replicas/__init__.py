"""The replicas that serve a system, over HTTP."""
