"""Ports: bound at once, so that a port that is taken is told before anything is loaded."""

import socket
from urllib.parse import urlsplit

from ebbtide.core.errors import BadConfiguration, Unreachable

_BACKLOG = 2048
_PORT = "{port}"


def listening(host: str, port: int, *, shared: bool = False) -> socket.socket:
    """A socket that listens. Port 0: any free one.

    `shared`: with all processes that say so for the same port; the kernel gives
    each new connection to one of them. Raises `Unreachable` where the port is taken.
    """
    made = bound(host, port, shared=shared)
    made.listen(_BACKLOG)
    return made


def bound(host: str, port: int, *, shared: bool = False) -> socket.socket:
    """A socket that holds a port and does not listen: the kernel gives it no connection."""
    made = socket.socket(_family(host), socket.SOCK_STREAM)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shared:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        made.bind((host, port))
    except OSError as fault:
        made.close()
        raise Unreachable(
            f"Port {port} of {host} cannot be bound: {fault.strerror or fault}.",
            remedy="Choose another with --port, or 0 for any free one.",
        ) from fault
    return made


def reserved(host: str, port: int) -> socket.socket:
    """Hold a port for this process's own workers to share.

    Bound alone first: a port that another service shares must not be joined by
    this one, for clients would get answers of both.
    """
    alone = bound(host, port)
    number = alone.getsockname()[1]
    alone.close()
    return bound(host, number, shared=True)


def url_of(made: socket.socket, host: str, given: str = "") -> str:
    """Where others reach what listens there. `given`: as `checked` has it, where that is known."""
    port = made.getsockname()[1]
    return given.replace(_PORT, str(port)) if given else f"http://{_reachable(host)}:{port}"


def checked(url: str, workers: int = 1) -> str:
    """A URL under which replicas can be reached; `{port}` in it becomes the port that was bound.

    Raises `BadConfiguration` for what is none, and for one URL for several replicas.
    """
    try:
        parts = urlsplit(url.replace(_PORT, "1"))
        sound = parts.scheme in ("http", "https") and parts.hostname and (parts.port or 1) > 0
    except ValueError:
        sound = False
    if not sound or parts.query or parts.fragment or parts.username or any(map(str.isspace, url)):
        raise BadConfiguration(
            f"`{url}` is no URL of a replica.",
            remedy=f"Such as http://10.0.0.7:5001, or http://10.0.0.7:{_PORT} for any port.",
        )
    if workers > 1 and _PORT not in url:
        raise BadConfiguration(
            f"`{url}` cannot be the URL of {workers} workers: each has a port of its own.",
            remedy=f"Write {_PORT} in place of the port.",
        )
    return url


def _family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET


def _reachable(host: str) -> str:
    if host in ("0.0.0.0", "::", ""):  # noqa: S104 - read, not bound
        return socket.gethostname()
    return f"[{host}]" if ":" in host else host
