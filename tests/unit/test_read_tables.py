"""Which tables serving reads: a wrong guess would let a rollback revert honest appends."""

from pathlib import Path

from ebbtide.adapters.discovery.repository import read_in


def test_only_a_table_that_the_code_takes_from_its_parts_is_read(tmp_path: Path) -> None:
    code = 'areas = parts.tables["areas"]\nfound = rows["orders"]\n'
    (tmp_path / "handler.py").write_text(code)
    assert read_in(tmp_path, ["areas", "orders"]) == {"areas"}
