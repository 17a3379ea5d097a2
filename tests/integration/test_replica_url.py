"""Under which URL a replica says that others reach it."""

import os
import signal
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest
from typer.testing import CliRunner

from ebbtide.adapters.journal import open_journal
from ebbtide.core.errors import BadConfiguration
from ebbtide.entrypoints.cli.main import app
from ebbtide.entrypoints.gateway.sockets import checked, listening, url_of
from tests.integration.gateway_fixtures import until

SYSTEM = "system: lonely\njournal: {journal}\nlayers: {{}}\n"


@pytest.fixture
def systems(tmp_path: Path) -> Path:
    journal = f"sqlite:///{tmp_path / 'journal.db'}"
    (tmp_path / "lonely.yaml").write_text(SYSTEM.format(journal=journal))
    return tmp_path


def test_a_replica_reports_the_url_that_it_was_given_and_answers_there(systems: Path) -> None:
    command = [sys.executable, "-m", "ebbtide", "serve", "lonely", "--systems", str(systems)]
    command += ["--host", "127.0.0.1", "--port", "0", "--url", "http://localhost:{port}/"]
    with (
        closing(open_journal(f"sqlite:///{systems / 'journal.db'}")) as journal,
        subprocess.Popen(command, env={**os.environ, "NO_COLOR": "1"}) as process,
    ):
        try:
            (replica,) = until(lambda: journal.replicas("lonely", 5.0), "it reports itself", 60)
            port = urlsplit(replica.url).port
            assert replica.url == f"http://localhost:{port}/"
            with httpx.Client(trust_env=False, timeout=30) as client:
                assert client.get(f"{replica.url}version").status_code == 200
        finally:
            process.send_signal(signal.SIGTERM)
            assert process.wait(60) == 0
        assert journal.replicas("lonely", 60.0) == []


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--url", "10.0.0.7:5001"), "no URL of a replica"),
        (("--url", "ftp://10.0.0.7"), "no URL of a replica"),
        (("--url", "http://:5001"), "no URL of a replica"),
        (("--url", "http://a:b@host:5001"), "no URL of a replica"),
        (("--url", "http://host:70000"), "no URL of a replica"),
        (("--url", "http://host:{ports}"), "no URL of a replica"),
        (("--url", "http://host:5001", "--workers", "2"), "a port of its own"),
    ],
)
def test_a_url_that_none_could_be_reached_at_is_refused(
    systems: Path, words: tuple[str, ...], says: str
) -> None:
    done = CliRunner().invoke(app, ["serve", "lonely", "--systems", str(systems), *words])
    assert isinstance(done.exception, BadConfiguration) and says in done.exception.message


def test_the_port_is_filled_in_where_it_is_asked_for() -> None:
    with closing(listening("127.0.0.1", 0)) as made:
        port = made.getsockname()[1]
        for given in ("https://edge/one", "http://[fd00::7]:{port}", "http://host:5001"):
            url = url_of(made, "127.0.0.1", checked(given))
            assert url == given.replace("{port}", str(port))
        assert url_of(made, "127.0.0.1") == f"http://127.0.0.1:{port}"
