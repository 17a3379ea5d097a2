"""Cached predictions: by epoch, with an end, and never waited for."""

import os
import secrets
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from shutil import which
from typing import Any

import pytest

from ebbtide.adapters.cache import DiskCache, RedisCache, open_cache
from ebbtide.core.errors import BadConfiguration, Unreachable
from ebbtide.core.ports import Cache


class OwnRedis:
    """A Redis server of this test's own, to be stopped and killed."""

    def __init__(self, folder: Path) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self._folder = folder
        self.start()

    def start(self) -> None:
        command = ["redis-server", "--port", str(self.port), "--save", "", "--bind", "127.0.0.1"]
        quiet = subprocess.DEVNULL
        self.process = subprocess.Popen(command, cwd=self._folder, stdout=quiet, stderr=quiet)
        until = time.monotonic() + 60
        while not self._accepts():
            assert time.monotonic() < until, "the Redis server does not start"
            time.sleep(0.01)

    def kill(self) -> None:
        self.process.send_signal(signal.SIGCONT)
        self.process.kill()
        self.process.wait()

    def hang(self) -> None:
        self.process.send_signal(signal.SIGSTOP)

    def client(self) -> Any:
        import redis

        return redis.Redis.from_url(self.url)

    def _accepts(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0


@pytest.fixture
def own_redis(tmp_path: Path) -> Iterator[OwnRedis]:
    if which("redis-server") is None:
        assert os.environ.get("CI") != "true", "CI must have redis-server"
        pytest.skip("redis-server is not installed")
    server = OwnRedis(tmp_path)
    yield server
    server.kill()


@pytest.fixture(params=["disk", "redis"])
def cache(request: pytest.FixtureRequest, tmp_path: Path) -> Cache:
    if request.param == "disk":
        return DiskCache(tmp_path / "cache", "rides", 60.0)
    return RedisCache(request.getfixturevalue("own_redis").url, "rides", 60.0)


def test_what_was_put_is_found_in_its_own_epoch_only(cache: Cache) -> None:
    cache.put("one", "key", b"answer")
    assert cache.get("one", "key") == b"answer"
    assert cache.get("two", "key") is None


def test_the_epoch_is_empty_until_one_starts(cache: Cache) -> None:
    assert cache.epoch() == ""
    cache.start_epoch("release:saga")
    assert cache.epoch() == "release:saga"


def test_dropping_an_epoch_takes_its_entries_and_no_others(cache: Cache) -> None:
    for n in range(250):
        cache.put("bad", f"key{n}", b"1")
    cache.put("bad:not", "key0", b"2")
    cache.put("good", "key0", b"3")
    cache.start_epoch("good")
    assert cache.drop_epoch("bad") == 250
    assert cache.get("bad", "key7") is None
    assert cache.get("bad:not", "key0") == b"2"
    assert cache.get("good", "key0") == b"3"
    assert cache.epoch() == "good"
    assert cache.drop_epoch("bad") == 0


def test_signs_that_match_patterns_are_plain_signs_in_a_token(cache: Cache) -> None:
    cache.put("a*[b]?", "key", b"1")
    cache.put("axbx", "key", b"2")
    assert cache.drop_epoch("a*[b]?") == 1
    assert cache.get("axbx", "key") == b"2"


def test_systems_do_not_see_each_other(tmp_path: Path, own_redis: OwnRedis) -> None:
    for url in ("", own_redis.url):
        one, other = (open_cache(url, tmp_path / "shared", name, 60.0) for name in ("a", "b"))
        one.put("token", "key", b"1")
        one.start_epoch("token")
        assert other.get("token", "key") is None
        assert other.epoch() == ""
        assert other.drop_epoch("token") == 0


def test_an_empty_token_is_refused(cache: Cache) -> None:
    with pytest.raises(ValueError, match="never empty"):
        cache.put("", "key", b"1")
    with pytest.raises(ValueError, match="never empty"):
        cache.drop_epoch("")


def test_every_entry_in_redis_has_an_end(own_redis: OwnRedis) -> None:
    RedisCache(own_redis.url, "rides", 60.0).put("token", "key", b"1")
    names = list(own_redis.client().scan_iter())
    assert names == [b"ebbtide:rides:token:key"]
    assert 0 < own_redis.client().pttl(names[0]) <= 60_000


def test_an_entry_on_disk_is_gone_after_its_time(tmp_path: Path) -> None:
    cache = DiskCache(tmp_path, "rides", 0.001)
    cache.put("token", secrets.token_hex(8), b"1")
    cache.put("token", "key", b"1")
    until = time.monotonic() + 5
    while cache.get("token", "key") is not None:
        assert time.monotonic() < until


@pytest.mark.parametrize("away", ["dead", "hanging"])
def test_a_redis_that_is_away_is_said_at_once(own_redis: OwnRedis, away: str) -> None:
    cache = RedisCache(own_redis.url, "rides", 60.0)
    cache.put("token", "key", b"1")
    own_redis.kill() if away == "dead" else own_redis.hang()
    for ask in (
        lambda: cache.get("token", "key"),
        lambda: cache.put("token", "key", b"1"),
        cache.epoch,
        lambda: cache.start_epoch("token"),
        lambda: cache.drop_epoch("token"),
    ):
        began = time.monotonic()
        with pytest.raises(Unreachable, match="Redis is away"):
            ask()
        assert time.monotonic() - began < 1.0


def test_a_folder_that_cannot_be_written_is_unreachable(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(Unreachable, match="is away"):
        DiskCache(tmp_path / "file", "rides", 60.0).put("token", "key", b"1")


def test_a_url_that_is_not_of_redis_is_refused_without_its_password(tmp_path: Path) -> None:
    with pytest.raises(BadConfiguration) as refused:
        open_cache("memcached://user:secret@host", tmp_path, "rides", 60.0)
    assert "secret" not in str(refused.value)
