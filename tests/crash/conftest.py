"""Productions that live through a whole file of deaths."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.crash.production import Production, produced
from tests.integration.journal_fixtures import postgres  # noqa: F401 - a fixture
from tests.ride_pricing import Built

# ruff: noqa: F811 - pytest's way to ask for a fixture


@pytest.fixture(scope="module")
def production(
    built_once_for_all: Built, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Production]:
    """On SQLite, v3 serves, riders ask throughout."""
    folder = tmp_path_factory.mktemp("production")
    with produced(built_once_for_all.copy(folder / "workspace"), folder) as made:
        yield made


@pytest.fixture(scope="module")
def on_postgresql(
    built_once_for_all: Built, tmp_path_factory: pytest.TempPathFactory, postgres: str
) -> Iterator[Production]:
    """The same with its journal in PostgreSQL."""
    folder: Path = tmp_path_factory.mktemp("on-postgresql")
    with produced(built_once_for_all.copy(folder / "workspace"), folder, postgres) as made:
        yield made
