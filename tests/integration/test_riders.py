"""The traffic client as a judge: it must see a mixed answer that the gateway calls whole."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from reference.ride_pricing.oracle import Oracle, Verdict, key
from reference.ride_pricing.report import write_report
from reference.ride_pricing.story import Compared, Mark, Shipped, Story
from reference.ride_pricing.traffic import Served, Traffic

ROWS = [
    {"zone": zone, "hour": f"2026-03-09T{hour:02}:00:00Z"} for zone in "AB" for hour in range(9)
]
GOOD, BAD = "a" * 64, "b" * 64
Table = dict[str, dict[str, Any]]


def table(demand: float, fare: float, words: str) -> Table:
    """What a release would answer, by row."""
    return {
        key(row): {
            "demand": demand + n,
            "surge": 1.0 + n / 100,
            "price": round(fare * (1.0 + n / 100), 2),
            "message": f"{words} {row['zone']}",
            "fair": round(8.0 * (1.0 + n / 100), 2),
        }
        for n, row in enumerate(ROWS)
    }


TABLES = {GOOD: table(40.0, 8.0, "Ride from"), BAD: table(54.0, 10.8, "Ride from")}


class Pretender(ThreadingHTTPServer):
    """A gateway that answers as it is told, and claims what it is told."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.says, self.answers = GOOD, TABLES[GOOD]
        self.layers = {GOOD: "demand=2", BAD: "demand=3"}
        self.status = 200
        self.lose = False
        self.answered = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def become(self, release: str) -> None:
        self.says, self.answers = release, TABLES[release]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Pretender

    def do_POST(self) -> None:
        length = int(self.headers["Content-Length"])
        rows = json.loads(self.rfile.read(length))["dataframe_records"]
        if self.server.lose:
            self.close_connection = True
            return
        says, answers = self.server.says, self.server.answers
        given = [{name: answers[key(row)][name] for name in _SHOWN} for row in rows]
        body = json.dumps({"predictions": given}).encode()
        self.send_response(self.server.status)
        self.send_header("X-Ebbtide-Release", says)
        self.send_header("X-Ebbtide-Model", self.server.layers.get(says, ""))
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
        self.server.answered += 1

    def log_message(self, *_: object) -> None:
        """Nothing."""


_SHOWN = ("demand", "surge", "price", "message")


@pytest.fixture
def gateway() -> Iterator[Pretender]:
    with Pretender() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@contextmanager
def riders(gateway: Pretender, folder: Path, patience: float = 0) -> Iterator[Traffic]:
    expected = folder / "expected"
    expected.mkdir()
    for release, rows in TABLES.items():
        (expected / f"{release}.json").write_text(json.dumps(rows))
    (folder / "questions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    traffic = Traffic(
        gateway.url,
        questions=folder / "questions.jsonl",
        expected=expected,
        out=folder / "served.jsonl",
        rate=200,
        connections=3,
        patience=patience,
    )
    with traffic:
        yield traffic


def until(happened: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + 30
    while not happened():
        assert time.monotonic() < deadline, f"never happened: {what}"
        time.sleep(0.02)


def counted(traffic: Traffic, verdict: Verdict, least: int = 1) -> None:
    until(lambda: traffic.counts()[verdict] >= least, f"{least} {verdict}")


def test_whole_releases_one_after_the_other_are_served(gateway: Pretender, tmp_path: Path) -> None:
    with riders(gateway, tmp_path) as traffic:
        counted(traffic, Verdict.SERVED, 20)
        gateway.become(BAD)
        until(lambda: any(each.release == BAD for each in traffic.served()), "the other release")
        found = traffic.stop()
    assert {each.verdict for each in found} == {Verdict.SERVED}
    errors = {each.release: each.price_error for each in found}
    assert errors[GOOD] == pytest.approx(0.0)
    assert errors[BAD] == pytest.approx(0.35, abs=0.01)
    assert [each.at for each in found] == sorted(each.at for each in found)


def _as_another(gateway: Pretender) -> None:
    gateway.says = BAD


def _one_part_of_another(name: str) -> Callable[[Pretender], None]:
    def spoil(gateway: Pretender) -> None:
        other = table(99.0, 7.0, "Other words for")
        gateway.answers = {row: {**TABLES[GOOD][row], name: other[row][name]} for row in other}

    return spoil


def _other_layers(gateway: Pretender) -> None:
    gateway.layers = {GOOD: "demand=3"}


def _unknown(gateway: Pretender) -> None:
    gateway.says = "c" * 64


def _nameless(gateway: Pretender) -> None:
    gateway.says = ""


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        (_as_another, f"model and features of {GOOD[:12]} in an answer of {BAD[:12]}"),
        (_one_part_of_another("demand"), "model and features of no release"),
        (_one_part_of_another("price"), "configuration of no release"),
        (_one_part_of_another("message"), "prompt of no release"),
        (_other_layers, "x-ebbtide-model changed within release"),
        (_unknown, "no such release was shipped"),
        (_nameless, "no such release was shipped: none"),
    ],
)
def test_an_answer_that_is_not_wholly_of_the_release_it_names_is_mixed(
    gateway: Pretender, tmp_path: Path, spoil: Callable[[Pretender], None], why: str
) -> None:
    with riders(gateway, tmp_path) as traffic:
        counted(traffic, Verdict.SERVED, 5)
        gateway.become(BAD)
        until(lambda: any(each.release == BAD for each in traffic.served()), "the other release")
        gateway.become(GOOD)
        spoil(gateway)
        counted(traffic, Verdict.MIXED)
        found = traffic.stop()
    assert any(why in each.why for each in found if each.verdict is Verdict.MIXED)


@pytest.mark.parametrize("right", [True, False])
def test_a_release_that_is_made_meanwhile_is_judged_once_its_answers_are_known(
    gateway: Pretender, tmp_path: Path, right: bool
) -> None:
    made = "d" * 64
    with riders(gateway, tmp_path, patience=60) as traffic:
        counted(traffic, Verdict.SERVED)
        gateway.says = made
        asked = gateway.answered
        until(lambda: gateway.answered > asked + 5, "some answers of the new release")
        assert traffic.counts()[Verdict.MIXED] == 0
        rows = TABLES[GOOD] if right else TABLES[BAD]
        (tmp_path / f"expected/{made}.json").write_text(json.dumps(rows))
        counted(traffic, Verdict.SERVED if right else Verdict.MIXED)
        until(lambda: any(each.release == made for each in traffic.served()), "its answers")
        found = traffic.stop()
    of_it = {each.verdict for each in found if each.release == made}
    assert of_it == {Verdict.SERVED if right else Verdict.MIXED}


def test_a_release_that_nobody_ever_knows_is_mixed_in_the_end(
    gateway: Pretender, tmp_path: Path
) -> None:
    gateway.says = "e" * 64
    with riders(gateway, tmp_path, patience=60) as traffic:
        until(lambda: gateway.answered > 5, "some answers")
        found = traffic.stop()
    assert found and {each.verdict for each in found} == {Verdict.MIXED}


def test_errors_and_lost_connections_are_failures_and_the_client_goes_on(
    gateway: Pretender, tmp_path: Path
) -> None:
    with riders(gateway, tmp_path) as traffic:
        gateway.status = 503
        counted(traffic, Verdict.FAILED, 3)
        gateway.status, gateway.lose = 200, True
        until(lambda: any(each.status == 0 for each in traffic.served()), "a lost connection")
        gateway.lose = False
        before = traffic.counts()[Verdict.SERVED]
        counted(traffic, Verdict.SERVED, before + 5)
        found = traffic.stop()
    assert {each.verdict for each in found} == {Verdict.SERVED, Verdict.FAILED}


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"nonsense",
        b"[]",
        b'{"predictions": 5}',
        b'{"predictions": [null]}',
        b'{"predictions": [{"price": null}]}',
        b'{"predictions": []}',
    ],
)
def test_an_answer_without_a_price_for_each_row_is_a_failure(tmp_path: Path, body: bytes) -> None:
    found = Oracle(tmp_path).judge(ROWS[:1], 200, {"x-ebbtide-release": GOOD}, body)
    assert found.verdict is Verdict.FAILED


def test_a_price_that_is_no_number_is_never_served(tmp_path: Path) -> None:
    (tmp_path / f"{GOOD}.json").write_text(json.dumps(TABLES[GOOD]))
    answer = {**TABLES[GOOD][key(ROWS[0])], "price": float("nan")}
    body = json.dumps({"predictions": [answer]}).encode()
    found = Oracle(tmp_path).judge(ROWS[:1], 200, {"x-ebbtide-release": GOOD}, body)
    assert found.verdict is Verdict.MIXED


def test_the_client_ends_with_its_parent(gateway: Pretender, tmp_path: Path) -> None:
    with riders(gateway, tmp_path) as traffic:
        counted(traffic, Verdict.SERVED)
        process = traffic._process
        assert process is not None and process.stdin is not None
        process.stdin.close()
        assert process.wait(20) == 0


def test_the_report_needs_nothing_but_itself_and_escapes_what_it_shows(tmp_path: Path) -> None:
    served = [
        Served(
            n / 10, 0.01, 200, "1", "miss", BAD if 30 < n < 60 else GOOD, Verdict.SERVED, "", 0.1
        )
        for n in range(100)
    ]
    story = Story(
        system="ride-pricing",
        served=served,
        shipped=(
            Shipped(GOOD, "v2", "good"),
            Shipped(BAD, "v3", "<script>alert(1)</script>", True),
        ),
        deployed=Mark("deployed", 3.0),
        detected=Mark("detected", 5.0),
        rolled_back=Mark("rolled back", 6.0),
        compared=(Compared("the release", 0.35, 0.33, 0.3), Compared("mixed", 1.5, 2.6, 1.1)),
    )
    picture, page = write_report(story, tmp_path / "report")
    text = page.read_text()
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert "<script>" not in text and "&lt;script&gt;" in text
    assert "http" not in text.replace("http-equiv", "") and 'src="data:' in text


def test_who_answered_while_the_target_was_made_is_counted_from_the_responses(
    tmp_path: Path,
) -> None:
    def served(at: float, release: str) -> Served:
        return Served(at, 0.01, 200, "1", "miss", release, Verdict.SERVED, "", 0.1)

    made = "d" * 64
    by_turns = ((1, BAD), (2, BAD), (5, GOOD), (6, GOOD), (8, BAD), (9, made), (10, BAD))
    story = Story(
        system="ride-pricing",
        served=[served(at, release) for at, release in by_turns],
        shipped=[Shipped(GOOD, "v2", ""), Shipped(BAD, "v3", "", bad=True)],
        deployed=Mark("deployed", 0),
        detected=Mark("detected", 2.5),
        rolled_back=Mark("safe", 4),
        arrived=Mark("there", 8.5),
        left=["<b>rows</b> are left"],
    )
    assert story.while_made == {"v3": 1, "v2": 2}
    assert story.bad_afterwards == 2
    _, page = write_report(story, tmp_path)
    text = page.read_text()
    assert "2 requests" in text and "&lt;b&gt;rows&lt;/b&gt; are left" in text


def test_the_report_of_a_story_without_traffic_is_still_a_report(tmp_path: Path) -> None:
    deployed, detected, back = (Mark(name, 1.0) for name in ("deployed", "detected", "back"))
    story = Story("ride-pricing", (), (), deployed, detected, back)
    _, page = write_report(story, tmp_path)
    assert "requests served" in page.read_text()
