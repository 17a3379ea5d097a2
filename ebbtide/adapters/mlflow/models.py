"""Which model version serves: MLflow's registry, an alias, and our own copy of the bytes.

MLflow keeps no digest and protects nothing from deletion or change, so a pin
carries the sha256 of the artifacts, and the artifacts are kept a second time.
"""

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from ebbtide.adapters.disk.files import fault_of, publish_verified, verified
from ebbtide.adapters.disk.keeping import KeptByDigest
from ebbtide.adapters.disk.sizes import misfits
from ebbtide.adapters.handover import hand_over
from ebbtide.adapters.mlflow.artifacts import (
    NO_SIGNATURE,
    Content,
    artifacts,
    content_digest,
    copy,
    listed,
    model_id_of,
)
from ebbtide.adapters.mlflow.pipelines import Pipelines
from ebbtide.adapters.mlflow.registry import Registry, absent_as_none, floating, is_cold, is_version
from ebbtide.adapters.mlflow.training import (
    TRAINED_ON_TAG,
    TRAINED_PIPELINE_TAG,
    Trainer,
    Training,
    untrained,
)
from ebbtide.adapters.system.file import ModelThing
from ebbtide.core.crashpoints import reach
from ebbtide.core.errors import NotRestorable, Refused, Unknown
from ebbtide.core.fencing import still_ours
from ebbtide.core.making import Tell
from ebbtide.core.quality import Quality
from ebbtide.core.release import Pin, Release

SAGA_TAG = "ebbtide.saga"
RELEASE_TAG = "ebbtide.release"


class Models(KeptByDigest):
    """The `model` layer of a system."""

    def __init__(
        self,
        tracking_uri: str,
        registry_uri: str,
        things: Mapping[str, ModelThing],
        state: Path,
        pipelines: Pipelines | None = None,
        train: Trainer = untrained,
    ) -> None:
        """`pipelines` and `train`: how models are made that `things` says how to train."""
        self._registry = Registry(tracking_uri, registry_uri)
        self._things = things
        self._store = state.resolve() / "models"
        self._seen: dict[str, Content] = {}
        self._contents: dict[str, Content] = {}
        self._training = Training(
            self._registry, things, self._store, pipelines or Pipelines({}, Path), train, self.pin
        )

    @property
    def is_cold(self) -> bool:
        """MLflow is not imported in this process yet."""
        return is_cold()

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self._things)

    def pin(self, name: str, ask: str = "") -> Pin:
        """A registry version, its artifacts hashed and kept. Empty: the newest version."""
        with self._registry.calls() as client:
            version = self._asked(client, name, ask)
            if version.status != "READY":
                raise Refused(
                    f"{version.name} version {version.version} is {version.status}, not READY."
                )
            with artifacts(self._registry, client, version, self._store) as folder:
                found = Content.of(folder, self._contents)
                publish_verified(lambda to: copy(folder, to), self._store, found.digest)
        return Pin(name, found.digest, _where(version) | dict(found.facts))

    def problems(self, pin: Pin) -> list[str]:
        """Hashes the registry's artifacts and our own copy; a copy not made yet is no problem."""
        kept = self._store / pin.digest
        found = [fault_of(kept, pin.digest)] if kept.exists() else []
        return [problem for problem in (*found, *self.lost_outside(pin)) if problem]

    def lost_outside(self, pin: Pin) -> list[str]:
        """Hashes the registry's artifacts."""
        with self._registry.calls() as client:
            try:
                version = self._pinned(client, pin)
                with artifacts(self._registry, client, version, self._store) as folder:
                    now = content_digest(folder)
            except Refused as fault:
                return [f"{fault} Pinned: {pin.digest[:10]}."]
        if now == pin.digest:
            return []
        changed = f"its bytes have changed in the registry ({now[:10]} now)."
        return [f"{_title(pin)} ({pin.digest[:10]}): {changed}"]

    def glance(self, pin: Pin) -> list[str]:
        """As `Glancing.glance`: our own copy against the registry's list of the artifacts."""
        kept = self._store / pin.digest
        try:
            wanted = self._listed(pin)
        except Refused as fault:
            return [f"{fault} Pinned: {pin.digest[:10]}."]
        return misfits(kept, wanted) if kept.exists() else []

    def glance_outside(self, pin: Pin) -> list[str]:
        """As `Glancing.glance_outside`: whether the registry still lists the artifacts."""
        try:
            self._listed(pin)
        except Refused as fault:
            return [f"{fault} Pinned: {pin.digest[:10]}."]
        return []

    def kept_problems(self, pin: Pin) -> list[str]:
        """What is wrong with our own copy, from which the gateway loads; MLflow is not asked."""
        kept = self._store / pin.digest
        fault = fault_of(kept, pin.digest) if kept.exists() else f"{_title(pin)} is not kept."
        return [fault] if fault else []

    def prepare(self, pin: Pin) -> None:
        """Keep the pin's artifacts. Raises `NotRestorable` where they are not the pinned ones."""
        if (self._store / pin.digest).exists():
            self.path(pin)
            return
        with self._registry.calls() as client:
            version = self._pinned(client, pin)
            with artifacts(self._registry, client, version, self._store) as folder:
                publish_verified(lambda to: copy(folder, to), self._store, pin.digest)

    def path(self, pin: Pin) -> Path:
        """The kept artifacts to load from, hashed just now. Raises `NotRestorable`."""
        return verified(self._store / pin.digest, pin.digest)

    def live(self, name: str) -> Pin | None:
        """The version that the alias leads to.

        Its digest is of the registry's bytes as they are now (over the network: as
        this process first saw them, because each look costs a download); empty where
        they cannot be read. Compare versions by `version` and `model_id`.
        """
        with self._registry.calls() as client:
            version = self._aliased(client, name)
            if version is None:
                return None
            if model_id_of(version) in self._seen:
                known = self._seen[model_id_of(version)]
                return Pin(name, known.digest, _where(version) | dict(known.facts))
            try:
                with artifacts(self._registry, client, version, self._store) as folder:
                    found = Content.of(folder, self._contents)
            except Refused:
                return Pin(name, "", _where(version) | NO_SIGNATURE)
            if self._store in folder.parents and model_id_of(version):
                self._seen[model_id_of(version)] = found
            return Pin(name, found.digest, _where(version) | dict(found.facts))

    def move(
        self, name: str, to: Pin | None, *, only_from: Collection[Pin | None], note: str
    ) -> None:
        """Hand the alias over; the version that gets it is tagged with the saga."""
        thing = self._thing(name)

        def shown() -> tuple[str, str] | None:
            with self._registry.calls() as client:
                version = self._aliased(client, name)
                return None if version is None else (str(version.version), model_id_of(version))

        def show(pin: Pin | None) -> None:
            with self._registry.calls() as client:
                if pin is None:
                    client.delete_registered_model_alias(thing.registered_model, thing.alias)
                    return
                number = self._pinned(client, pin).version
                client.set_model_version_tag(thing.registered_model, number, SAGA_TAG, note)
                reach("models.move/tagged")
                still_ours()
                client.set_registered_model_alias(thing.registered_model, thing.alias, number)

        hand_over(
            f"The alias `{thing.alias}` of {thing.registered_model}",
            to,
            only_from,
            shown=shown,
            identity=lambda pin: (
                pin.at.get("version", ""),
                pin.at.get("model_id", ""),
            ),
            show=show,
        )

    def tag_release(self, pin: Pin, release_id: str) -> None:
        """Tag the version with a release that it is part of: one tag for each release."""
        with self._registry.calls() as client:
            number = self._pinned(client, pin).version
            key = f"{RELEASE_TAG}.{release_id[:12]}"
            client.set_model_version_tag(pin.at["registered_model"], number, key, release_id)

    def recipe(self, name: str, within: Release, ask: str = "") -> Pin:
        """What it is to be trained on, and by which commit; see `Making.recipe`."""
        return self._training.recipe(name, within, ask)

    def found(self, recipe: Pin, within: Release) -> Pin | None:
        """The newest whole version of exactly that lineage; see `Making.found`."""
        return self._training.found(recipe, within)

    def make(self, recipe: Pin, within: Release, tell: Tell) -> Pin:
        """That version, or one that the pipeline's training stage registers; see `Making.make`."""
        return self._training.make(recipe, within, tell)

    def tag_lineage(self, pin: Pin, within: Release) -> str:
        """See `Training.tag_lineage`."""
        return self._training.tag_lineage(pin, within)

    def quality(self, pin: Pin) -> Quality | None:
        """See `Measured`."""
        return self._training.quality(pin)

    def _thing(self, name: str) -> ModelThing:
        if name not in self._things:
            raise Unknown(f"No model `{name}`.", remedy=f"Known here: {', '.join(self._things)}.")
        return self._things[name]

    def _asked(self, client: Any, name: str, ask: str) -> Any:
        model = self._thing(name).registered_model
        if is_version(ask):
            version = absent_as_none(lambda: client.get_model_version(model, ask))
            if version is None:
                raise Unknown(f"{model} has no version {ask}.", remedy=_newest_is(client, model))
            return version
        newest = _newest(client, model)
        if ask:
            raise floating(model, ask, _today(client, model, ask, newest))
        if newest is None:
            raise Unknown(f"{model} has no version in the registry.", remedy="Register one.")
        return newest

    def _listed(self, pin: Pin) -> Mapping[str, int | None]:
        with self._registry.calls() as client:
            return listed(self._registry, client, self._pinned(client, pin))

    def _pinned(self, client: Any, pin: Pin) -> Any:
        """The registry's version of a pin. Raises `NotRestorable` where it is not that any more."""
        model, number = pin.at["registered_model"], pin.at["version"]
        if model != self._thing(pin.name).registered_model:
            raise NotRestorable(
                f"`{pin.name}` was pinned from {model}; the system file names another model."
            )
        version = absent_as_none(lambda: client.get_model_version(model, number))
        if version is None:
            kept = self._store / pin.digest
            whole = absent_as_none(lambda: client.get_registered_model(model))
            with_all = "" if whole else ", and the whole registered model with it"
            raise NotRestorable(
                f"{_title(pin)} was deleted from the registry{with_all}.",
                remedy=f"Its bytes are kept in {kept}." if kept.exists() else "",
            )
        if model_id_of(version) != pin.at["model_id"]:
            now = model_id_of(version) or "nothing"
            raise NotRestorable(
                f"{_title(pin)} leads to {now} now, not to {pin.at['model_id'] or 'nothing'}."
            )
        if version.status != "READY":
            raise NotRestorable(f"{_title(pin)} is {version.status}, not READY.")
        return version

    def _aliased(self, client: Any, name: str) -> Any:
        thing = self._thing(name)
        return absent_as_none(
            lambda: client.get_model_version_by_alias(thing.registered_model, thing.alias),
            alias=True,
        )


def _where(version: Any) -> dict[str, str]:
    tags = version.tags or {}
    return {
        "version": str(version.version),  # an int on SQLite, text over HTTP
        "model_id": model_id_of(version),
        "registered_model": version.name,
        "source": version.source or "",
        "run_id": version.run_id or "",
        "trained_on": tags.get(TRAINED_ON_TAG, ""),
        "trained_pipeline": tags.get(TRAINED_PIPELINE_TAG, ""),
    }


def _title(pin: Pin) -> str:
    return f"{pin.at['registered_model']} version {pin.at['version']}"


def _newest(client: Any, model: str) -> Any:
    if "'" in model:
        raise Refused(f"The registered model's name {model} has a quote.")
    found = client.search_model_versions(
        f"name='{model}'", max_results=1, order_by=["version_number DESC"]
    )
    return found[0] if found else None


def _newest_is(client: Any, model: str) -> str:
    newest = _newest(client, model)
    return f"The newest is {newest.version}." if newest else "It has no version at all."


def _today(client: Any, model: str, ask: str, newest: Any) -> str:
    if ask.lower() == "latest":
        return str(newest.version) if newest else ""
    whole = absent_as_none(lambda: client.get_registered_model(model))
    return str(whole.aliases.get(ask.removeprefix("@"), "")) if whole else ""
