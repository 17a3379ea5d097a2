"""Cached predictions, on disk or in Redis.

A key is `ebbtide:<system>:<token>:<key>`: an epoch that ends takes every entry
of its own along, also those that a slow request writes after the end. Every
entry has a time to live, so what is never dropped goes by itself.
"""

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ebbtide.core.errors import BadConfiguration, Unreachable
from ebbtide.core.ports import Cache

_TIMEOUT = 0.2
"""Seconds. A cache that takes longer than a prediction is none."""
_BATCH = 1000


def open_cache(url: str, folder: Path, system: str, ttl: float) -> Cache:
    """The cache of a system: Redis by URL, else on disk below `folder`. `ttl` in seconds."""
    if not url:
        return DiskCache(folder, system, ttl)
    if not url.startswith(("redis://", "rediss://", "unix://")):
        raise BadConfiguration(
            f"The cache's URL `{url.partition('://')[0]}://...` is not one of Redis.",
            remedy="Write redis://host:6379/0, or leave it empty for a cache on disk.",
        )
    return RedisCache(url, system, ttl)


class DiskCache:
    """On this host's disk, for all processes of this host."""

    def __init__(self, folder: Path, system: str, ttl: float) -> None:
        self._folder = folder
        self._prefix = f"ebbtide:{system}"
        self._ttl = ttl
        self._opened: Any = None

    def epoch(self) -> str:
        """The token that outside readers of the cache go by; empty where none is set."""
        with self._reaching() as store:
            return str(store.get(f"{self._prefix}:epoch", default=""))

    def start_epoch(self, token: str) -> None:
        with self._reaching() as store:
            store.set(f"{self._prefix}:epoch", _sound(token))

    def get(self, token: str, key: str) -> bytes | None:
        with self._reaching() as store:
            found = store.get(_key(self._prefix, token, key))
            return found if isinstance(found, bytes) else None

    def put(self, token: str, key: str, value: bytes) -> None:
        with self._reaching() as store:
            name, tag = _key(self._prefix, token, key), f"{self._prefix}:{token}"
            store.set(name, value, expire=self._ttl, tag=tag)

    def drop_epoch(self, token: str) -> int:
        """Take an epoch's entries away; how many there were."""
        with self._reaching() as store:
            return int(store.evict(f"{self._prefix}:{_sound(token)}", retry=True))

    @contextmanager
    def _reaching(self) -> Iterator[Any]:
        import diskcache

        try:
            if self._opened is None:
                self._opened = diskcache.Cache(
                    str(self._folder),
                    timeout=_TIMEOUT,
                    tag_index=True,
                    eviction_policy="least-recently-stored",
                )
            yield self._opened
        except (diskcache.Timeout, sqlite3.Error, OSError) as fault:
            raise Unreachable(f"The cache in {self._folder} is away: {fault}.") from fault


class RedisCache:
    """In Redis, for all hosts. Asked once and never waited for."""

    def __init__(self, url: str, system: str, ttl: float) -> None:
        self._url = url
        self._prefix = f"ebbtide:{system}"
        self._ttl_ms = max(1, int(ttl * 1000))
        self._opened: Any = None

    def epoch(self) -> str:
        """The token that outside readers of the cache go by; empty where none is set."""
        found = self._ask(lambda store: store.get(f"{self._prefix}:epoch"))
        return found.decode() if found else ""

    def start_epoch(self, token: str) -> None:
        self._ask(lambda store: store.set(f"{self._prefix}:epoch", _sound(token)))

    def get(self, token: str, key: str) -> bytes | None:
        found = self._ask(lambda store: store.get(_key(self._prefix, token, key)))
        return found if isinstance(found, bytes) else None

    def put(self, token: str, key: str, value: bytes) -> None:
        name = _key(self._prefix, token, key)
        self._ask(lambda store: store.set(name, value, px=self._ttl_ms))

    def drop_epoch(self, token: str) -> int:
        """Take an epoch's entries away in batches, so that no other client waits."""
        start = f"{self._prefix}:{_sound(token)}:"
        pattern = "".join(f"\\{sign}" if sign in "*?[]\\^" else sign for sign in start) + "*"
        return sum(self._ask(lambda store: list(self._drop(store, pattern, len(start)))))

    def _drop(self, store: Any, pattern: str, skip: int) -> Iterator[int]:
        cursor = 0
        while True:
            cursor, names = store.scan(cursor, match=pattern, count=_BATCH)
            # A token may begin another token; a key holds no colon.
            mine = [name for name in names if b":" not in name[skip:]]
            if mine:
                yield int(store.unlink(*mine))
            if cursor == 0:
                return

    def _ask(self, what: Callable[[Any], Any]) -> Any:
        import redis

        try:
            return what(self._store())
        except (redis.RedisError, OSError) as fault:
            raise Unreachable(f"The cache in Redis is away: {fault}.") from fault
        except ValueError as fault:
            if self._opened is not None:
                raise
            raise BadConfiguration(f"The cache's URL cannot be used: {fault}.") from fault

    def _store(self) -> Any:
        if self._opened is None:
            import redis
            from redis.backoff import NoBackoff
            from redis.retry import Retry

            self._opened = redis.Redis.from_url(
                self._url,
                socket_timeout=_TIMEOUT,
                socket_connect_timeout=_TIMEOUT,
                retry=Retry(NoBackoff(), 0),
            )
        return self._opened


def _key(prefix: str, token: str, key: str) -> str:
    if ":" in key:
        raise ValueError(f"a cache key holds no colon: {key!r}")
    return f"{prefix}:{_sound(token)}:{key}"


def _sound(token: str) -> str:
    if not token:
        raise ValueError("an epoch's token is never empty")
    return token
