"""`ebbtide serve`: the embedded gateway, one replica of a system's serving.

It speaks MLflow's scoring protocol, holds several releases warm, answers each
request from one immutable release, follows the route, and tells the journal
which epoch it serves.
"""

from ebbtide.entrypoints.gateway.server import Gateway, serve

__all__ = ["Gateway", "serve"]
