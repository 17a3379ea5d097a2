"""What has not been made before, so that it must be: pipelines and counts, new each time.

What is to come of them is worked out without DVC and without ebbtide.
"""

import hashlib
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

import deltalake
import yaml

from reference.ride_pricing.commands import environment, run
from tests import stores

_NOTE = "note.txt"
_ODD_COUNTS = 400
"""As many values as the suite of the rides' table lets a count have, and some to spare."""
_FIRST = "zone = 'Old Town' AND slot = '2026-01-05T00:00:00Z'"
"""So long ago that the week which is priced shows nothing of it."""


@dataclass
class Workshop:
    """Of the release with this `commit` of the pipeline: what is made answers as that does.

    `before` is what the stores show of it, but for lineage.
    """

    root: Path
    commit: str
    before: Mapping[str, Any]
    _numbers: Iterator[int] = field(default_factory=lambda: count(1))
    _now: int = 0

    def another_pipeline(self) -> Mapping[str, str]:
        """The pipeline again, with a note beside its features and another seed to train with.

        The seed is not used, so the model answers as the one before, and is another one.
        """
        self._now = next(self._numbers)
        with tempfile.TemporaryDirectory() as aside:
            return {"commit": self._committed(Path(aside))}

    def remade(self) -> Mapping[str, Any]:
        """What the stores show of features and a model by that pipeline."""
        note = hashlib.md5(_text(self._now).encode()).hexdigest()
        features = dict(sorted({**self.before["features"], _NOTE: note}.items()))
        newest = max(stores.registered(self.root, "ride-demand"))
        return {**self.before, "features": features, "model": str(newest)}

    def late_counts(self) -> Mapping[str, str]:
        """Of the first rides one count comes late: the pipeline has not seen that yet."""
        self._now = next(self._numbers)
        path = self.root / "tables/rides"
        rides = deltalake.DeltaTable(path)
        if stores.table(path) != stores.table(path, 0):
            rides.restore(0)
        told = rides.update({"rides": str(1 + self._now % _ODD_COUNTS)}, predicate=_FIRST)
        assert told["num_updated_rows"] == 1
        return {}

    def refreshed(self) -> Mapping[str, Any]:
        """What the stores show of the features of these counts."""
        with tempfile.TemporaryDirectory() as aside:
            return {**self.before, "features": self._plainly(Path(aside))}

    def _committed(self, aside: Path) -> str:
        """By git's plumbing: the working tree and its index stay as they are."""
        own = {"GIT_INDEX_FILE": str(aside / "index")}
        run("git", "read-tree", self.commit, cwd=self.root, env=own)
        for path, changed in self._changed().items():
            (aside / "file").write_text(changed)
            blob = run("git", "hash-object", "-w", str(aside / "file"), cwd=self.root)
            entry = f"100644,{blob},{path}"
            run("git", "update-index", "--cacheinfo", entry, cwd=self.root, env=own)
        tree = run("git", "write-tree", cwd=self.root, env=own)
        why = _text(self._now)
        found = run("git", "commit-tree", tree, "-p", self.commit, "-m", why, cwd=self.root)
        run("git", "branch", f"another-{self._now}", found, cwd=self.root)
        return found

    def _changed(self) -> Mapping[str, str]:
        code, params = "pipeline/features.py", "params.yaml"
        text, seed = self._of_commit(code), f"seed: {1000 + self._now}"
        note = f"    (out / {_NOTE!r}).write_text({_text(self._now)!r})\n"
        old = self._of_commit(params)
        assert "seed: 11\n" in old
        return {code: f"{text}\n{note}", params: old.replace("seed: 11\n", f"{seed}\n")}

    def _of_commit(self, path: str) -> str:
        return run("git", "show", f"{self.commit}:{path}", cwd=self.root)

    def _plainly(self, aside: Path) -> Mapping[str, str]:
        """The pipeline's own programs, one after the other."""
        tree = subprocess.run(
            ["git", "archive", self.commit], cwd=self.root, check=True, capture_output=True
        )
        subprocess.run(["tar", "-x"], cwd=aside, input=tree.stdout, check=True)
        params = yaml.safe_load((aside / "params.yaml").read_text())
        tables = self.root / "tables"
        params["tables"] = {name: stores.newest(tables / name) for name in params["tables"]}
        (aside / "params.yaml").write_text(yaml.safe_dump(params))
        shutil.rmtree(aside / "data", ignore_errors=True)
        for stage in ("extract", "features"):
            run("python", f"pipeline/{stage}.py", cwd=aside, env=_reading(tables))
        return stores.folder(aside / "data/features")


def _reading(tables: Path) -> Mapping[str, str]:
    return environment({"RIDE_PRICING_TABLES": str(tables)})


def _text(number: int) -> str:
    return f"This is number {number}."
