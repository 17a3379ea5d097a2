"""The one place where configuration becomes a World of adapters."""

import json
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from threading import Lock
from typing import Any

from ebbtide.adapters.system.file import GitopsThing, InfraThing, SystemFile, find_system
from ebbtide.adapters.system.journal_place import check_journal_place
from ebbtide.adapters.system.own import OwnGate, Site, own_layer
from ebbtide.core.effects import Receivers
from ebbtide.core.errors import BadConfiguration
from ebbtide.core.outputs import OutputStore
from ebbtide.core.ports import Cache, Layer, Policy, World
from ebbtide.core.saga import Phase

SYSTEMS = Path("configs/systems")
"""Where system files lie, unless somebody says otherwise."""


def open_world(system: str, folder: Path = SYSTEMS) -> World:
    """The system of that name, with all its adapters. Raises `Unknown`, `BadConfiguration`."""
    return world_of(find_system(system, folder))


def world_of(file: SystemFile) -> World:
    """A World for a system file. Opens the journal; everything else opens when it is used."""
    from ebbtide.adapters.expectations.examining import Examiner
    from ebbtide.adapters.journal import open_journal
    from ebbtide.adapters.loading.aside import AsideScorer
    from ebbtide.adapters.replicas.serving import HttpServing

    check_journal_place(file)
    journal = open_journal(file.journal_url)
    layers = layers_of(file)
    policy = Policy(
        proved_after=file.proved_after,
        replicas=file.serving.replicas,
        warm_within=file.serving.warm_within,
        switch_within=file.serving.switch_within,
        tolerance=file.golden.tolerance,
        retention=file.retention.rule,
    )
    return World(
        system=file.system,
        policy=policy,
        journal=journal,
        layers=layers,
        serving=HttpServing(journal, file.system, policy.heartbeat_within),
        scorer=AsideScorer(layers, file.serving.handler),
        cache=cache_of(file),
        contents=Examiner(layers, file.layers.data, file.layers.features, file.at),
        questions=_rows(file, file.golden.questions),
        smoke=_rows(file, file.golden.smoke),
        outputs=_outputs(file),
        receivers=_receivers(file),
        own_gates={
            Phase.PREFLIGHT: {name: OwnGate(name) for name in file.gates.preflight},
            Phase.PROVE: {name: OwnGate(name) for name in file.gates.prove},
        },
    )


def layers_of(file: SystemFile) -> Mapping[str, Layer]:
    """The adapters of the layers that the system file names, in the order of its schema.

    The built-in ones are made when they are first used: `status` needs none of them.
    """
    made = {
        "model": _models,
        "features": _features,
        "data": _tables,
        "config": _config,
        "prompt": _prompts,
        "infra": _infra,
    }
    built_in = {name: partial(made[name], file) for name in made if getattr(file.layers, name)}
    own = {
        name: own_layer(things, Site(file.system, name, file.state_dir / "layers" / name, file.at))
        for name, things in file.layers.own.items()
    }
    return _WhenUsed({**built_in, **{name: partial(_itself, own[name]) for name in own}})


class _WhenUsed(Mapping[str, Layer]):
    """Layers by name, each made at its first use."""

    def __init__(self, makers: Mapping[str, Callable[[], Layer]]) -> None:
        self._makers = makers
        self._made: dict[str, Layer] = {}
        self._lock = Lock()

    def __getitem__(self, name: str) -> Layer:
        with self._lock:
            if name not in self._made:
                self._made[name] = self._makers[name]()
            return self._made[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._makers)

    def __len__(self) -> int:
        return len(self._makers)


def _itself(layer: Layer) -> Layer:
    return layer


def _models(file: SystemFile) -> Layer:
    from ebbtide.adapters.mlflow.anew import StageTrainer
    from ebbtide.adapters.mlflow.models import Models
    from ebbtide.adapters.mlflow.pipelines import Pipelines

    uris, pipelines = _mlflow(file), Pipelines(file.layers.features, file.at)
    train = StageTrainer(pipelines, file.state_dir, file.at, *uris)
    return Models(*uris, file.layers.model, file.state_dir, pipelines, train)


def _prompts(file: SystemFile) -> Layer:
    from ebbtide.adapters.mlflow.prompts import Prompts

    return Prompts(*_mlflow(file), file.layers.prompt)


def _mlflow(file: SystemFile) -> tuple[str, str]:
    """The tracking and the registry URI."""
    if file.mlflow is None:
        return "", ""
    return file.url(file.mlflow.tracking_uri), file.url(file.mlflow.registry_uri)


def _features(file: SystemFile) -> Layer:
    from ebbtide.adapters.dvc.features import Features

    def fingerprint(table: str, version: str) -> str:
        return _tables(file).pin(table, version).digest

    return Features(
        file.state_dir,
        file.layers.features,
        file.at,
        tracking_uri=_mlflow(file)[0],
        fingerprint=fingerprint,
    )


def _tables(file: SystemFile) -> Layer:
    from ebbtide.adapters.delta.leased import LeasedTables

    state = file.state_dir
    return LeasedTables(file.layers.data, file.at, state / "left", state / "delta")


def _outputs(file: SystemFile) -> OutputStore | None:
    if not file.outputs:
        return None
    from ebbtide.adapters.delta.outputs import OutputTables

    return OutputTables(file.outputs, file.at)


def _receivers(file: SystemFile) -> Receivers | None:
    if not file.effects.targets:
        return None
    from ebbtide.adapters.receivers.http import HttpReceivers

    return HttpReceivers(file.effects.targets)


def _config(file: SystemFile) -> Layer:
    from ebbtide.adapters.git.settings import Settings

    return Settings(file.state_dir, file.layers.config, "config", file.at)


def _infra(file: SystemFile) -> Layer:
    from ebbtide.adapters.git.gitops import Gitops
    from ebbtide.adapters.git.mixed import Mixed
    from ebbtide.adapters.git.settings import Settings

    things = file.layers.infra
    followed = {name: thing for name, thing in things.items() if isinstance(thing, GitopsThing)}
    linked = {name: thing for name, thing in things.items() if isinstance(thing, InfraThing)}
    if not followed:
        return Settings(file.state_dir, linked, "infra", file.at)
    adapters: list[Layer] = [Gitops(file.state_dir, followed, file.at)]
    if linked:
        adapters.append(Settings(file.state_dir, linked, "infra", file.at))
    return Mixed("infra", adapters, things)


def cache_of(file: SystemFile) -> Cache:
    from ebbtide.adapters.cache import open_cache

    folder, name = file.state_dir / "cache", file.cache_namespace
    return open_cache(file.cache.url, folder, name, file.cache.ttl_seconds)


def _rows(file: SystemFile, path: str) -> tuple[Any, ...]:
    """The rows of a JSON Lines file; none where none is named."""
    if not path:
        return ()
    place = file.at(path)
    try:
        lines = place.read_text(encoding="utf-8").splitlines()
        rows = tuple(json.loads(line) for line in lines if line.strip())
    except (OSError, ValueError) as fault:
        raise BadConfiguration(f"{place} cannot be read as JSON Lines: {fault}.") from fault
    if not rows:
        raise BadConfiguration(f"{place} has no rows: an empty golden set proves nothing.")
    return rows
