"""A small real system: configuration in git, and feature flags by an adapter of the user's own."""

import json
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from ebbtide.adapters.system.file import find_system
from ebbtide.bootstrap import world_of
from ebbtide.core.planner import Order
from ebbtide.core.ports import World
from ebbtide.core.recording import record, resolve
from ebbtide.core.release import Release
from ebbtide.core.saga import Level, Saga
from flows.order import carry_out
from tests.own_package import install

SYSTEM = """
system: shop
layers:
  config:
    prices: {path: config, link: live/config}
  flags:
    checkout: {versions: flags/checkout, live: live/checkout.json}
    search: {versions: flags/search, live: live/search.json}
serving: {replicas: 0}
proved_after: 0
"""

GATES = """
from ebbtide.core.gates import failed, passed

def calm(world, move):
    return passed("all calm")

def storm(world, move):
    return failed("a storm", remedy="wait")

def broken(world, move):
    raise RuntimeError("boom")

def silent(world, move):
    return None
"""


@dataclass
class Shop:
    root: Path
    world: World

    def versions(self, number: int) -> Release:
        """Version `number` of everything, recorded."""
        (self.root / "config").mkdir(exist_ok=True)
        (self.root / "config" / "prices.yaml").write_text(f"price: {number}\n")
        for thing in ("checkout", "search"):
            flags = self.root / "flags" / thing / f"{number}.json"
            flags.parent.mkdir(parents=True, exist_ok=True)
            flags.write_text(json.dumps({"flag": number, "of": thing}))
        self._git("add", "config")
        self._git("commit", "-qm", str(number))
        release = resolve(self.world, {})
        record(self.world, release, by="tester")
        return release

    def order(self, level: Level = Level.SYSTEM, **wishes: Any) -> Saga:
        return carry_out(self.world, Order(level, by="tester", **wishes))

    def shown(self) -> dict[str, Any]:
        """What a service would read, by plain files."""
        read = {
            thing: json.loads(path.read_text())["flag"] if path.exists() else None
            for thing in ("checkout", "search")
            for path in [self.root / "live" / f"{thing}.json"]
        }
        prices = self.root / "live" / "config" / "prices.yaml"
        return read | {"price": prices.read_text().strip() if prices.exists() else None}

    def _git(self, *words: str) -> None:
        who = ["-c", "user.name=A", "-c", "user.email=a@example.org"]
        subprocess.run(["git", "-C", str(self.root), *who, *words], check=True)


def build(root: Path, monkeypatch: pytest.MonkeyPatch, extra: str = "") -> Shop:
    points = {
        "ebbtide.layers": {"flags": "feature_flags:Flags"},
        "ebbtide.gates": {
            name: f"shop_gates:{name}" for name in ("calm", "storm", "broken", "silent")
        },
    }
    install(root / "site", monkeypatch, points, shop_gates=GATES)
    subprocess.run(["git", "init", "-q", str(root)], check=True)
    systems = root / "configs" / "systems"
    systems.mkdir(parents=True)
    (systems / "shop.yaml").write_text(SYSTEM + extra)
    return Shop(root, world_of(find_system("shop", systems)))
