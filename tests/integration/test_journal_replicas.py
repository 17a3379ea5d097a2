"""The journal knows which replicas are alive."""

from dataclasses import replace

from ebbtide.adapters.journal import SqlJournal
from ebbtide.core.journal import Replica
from tests.integration.journal_fixtures import (  # noqa: F401 - fixtures
    SYSTEM,
    Sql,
    journal,
    postgres,
    sql,
    url,
)

# ruff: noqa: F811 - pytest's way to ask for a fixture


def test_a_replica_is_alive_while_it_reports(journal: SqlJournal, sql: Sql) -> None:
    first = Replica("a", "http://a", "r1", 1, ("r1",), {}, 0.0, "token of a")
    journal.report(SYSTEM, first)
    journal.report(SYSTEM, replace(first, name="b"))
    sql("UPDATE replicas SET seen_at = seen_at - 10000000 WHERE name = 'b'")
    moved = replace(first, epoch=2, loaded=("r1", "r2"), refused={"r3": "no artifact"})
    journal.report(SYSTEM, moved)

    (alive,) = journal.replicas(SYSTEM, within=5)
    assert replace(alive, age=0.0) == moved
    assert alive.age < 5
    assert [replica.name for replica in journal.replicas(SYSTEM, within=60)] == [
        "a",
        "b",
    ]
    assert journal.audit(SYSTEM) == []
