"""Looking for Prefect takes half a second at most, and is wrong on the safe side."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from time import monotonic

import pytest

from ebbtide.core.errors import Refused
from flows.board import markdown
from flows.shell import prefect_is_up
from tests.conftest import Fakes


def test_prefect_is_down_where_nobody_asked_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    assert not prefect_is_up()


@pytest.mark.parametrize("body", [b"true", b" true\n"])
def test_prefect_is_up_where_it_says_so(body: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    with _answering(200, body) as url:
        monkeypatch.setenv("PREFECT_API_URL", url + "/api/")
        assert prefect_is_up()


@pytest.mark.parametrize(("status", "body"), [(500, b"true"), (200, b"<html>"), (404, b"")])
def test_what_is_not_prefect_or_not_well_is_down(
    status: int, body: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    with _answering(status, body) as url:
        monkeypatch.setenv("PREFECT_API_URL", url + "/api")
        assert not prefect_is_up()


@pytest.mark.parametrize("url", ["file:///etc/hostname", "127.0.0.1:1", "http://[", "ftp://x/api"])
def test_an_address_that_is_none_is_down(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREFECT_API_URL", url)
    assert not prefect_is_up()


def test_a_server_that_hangs_is_down_within_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv("PREFECT_API_URL", f"http://127.0.0.1:{silent.getsockname()[1]}/api")
        began = monotonic()
        assert not prefect_is_up()
        assert monotonic() - began < 1


def test_words_of_others_stay_in_their_cell_of_the_artifact(fakes: Fakes) -> None:
    saga = fakes.world.journal.sagas(fakes.world.system)[0]
    text = markdown(saga, {0: "failed: a | b\n<script>"})
    row = next(line for line in text.splitlines() if "script" in line)
    assert row.count("|") == 6
    assert "<script>" not in text


@pytest.mark.parametrize("wish", ["x=", "=3", "a=1, b"])
def test_a_model_form_that_cannot_be_read_is_refused(wish: str, fakes: Fakes) -> None:
    from flows.rollback import things_asked

    with pytest.raises(Refused):
        things_asked(fakes.world, "model", wish)


def test_a_model_form_names_versions(fakes: Fakes) -> None:
    from flows.rollback import things_asked

    (name,) = fakes.world.layers["model"].names
    assert things_asked(fakes.world, "model", "") == {}
    assert things_asked(fakes.world, "model", " 7 ") == {name: "7"}
    assert things_asked(fakes.world, "model", "a=1, b=2") == {"a": "1", "b": "2"}


@contextmanager
def _answering(status: int, body: bytes) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_args: object) -> None:
            """Silence."""

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
