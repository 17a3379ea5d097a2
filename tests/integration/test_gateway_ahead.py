"""A proof is answered where clients are already turned away; nobody else can ask so."""

from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from ebbtide.adapters.replicas.serving import HttpServing
from ebbtide.core.errors import Unreachable
from ebbtide.entrypoints.gateway import app
from tests.integration.gateway_fixtures import Running, running
from tests.integration.serving_world import MLFLOW_WARNS, SYSTEM, Marked, marks

pytestmark = pytest.mark.filterwarnings(MLFLOW_WARNS)


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[tuple[Marked, Running]]:
    with closing(Marked(tmp_path)) as marked, running(marked) as found:
        yield marked, found


def test_a_proof_is_answered_while_clients_are_turned_away(
    gateway: tuple[Marked, Running], monkeypatch: pytest.MonkeyPatch
) -> None:
    marked, running_ = gateway
    release = marked.release("only")
    running_.serves(marked.switch(release))
    with closing(HttpServing(marked.journal, SYSTEM, 5.0)) as serving:
        (replica,) = serving.replicas()
        monkeypatch.setattr(app, "_IN_FLIGHT", 0)  # as full as it can be
        fresh = {"x-ebbtide-no-cache": "1"}
        assert running_.client.ask(1, **fresh).status_code == 503
        answer = serving.ask(replica, [{"x": 1}])
        assert (answer.release, marks(answer.predictions[0])) == (release.id, {"only"})
        stranger = replace(replica, token="guessed")
        with pytest.raises(Unreachable, match="too many requests wait"):
            serving.ask(stranger, [{"x": 1}])
