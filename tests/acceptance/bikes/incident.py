"""The story of the rental service: three releases, the third bad, and the ways back."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests import stores
from tests.acceptance.bikes.commands import Done, asked, ebbtide, serving, url_of
from tests.acceptance.bikes.traffic import Clients, Row, clients
from tests.acceptance.bikes.workspace import MODEL, SYSTEM, Workspace

_LIVE = {"features": "features", "config": "config", "infra": "serving"}


@dataclass
class Incident:
    """What was done and what was seen, in the order in which it happened."""

    workspace: Workspace
    pool: list[Row]
    clients: Clients = field(init=False)
    refused: Done = field(init=False)
    sagas: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    shown: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    """What each store showed, by the moment."""

    def see(self, moment: str) -> None:
        self.shown[moment] = shown(self.workspace)


def play(folder: Path) -> Incident:
    """Build, record, serve, promote, go wrong, and go back, while clients go on asking."""
    workspace = Workspace(folder)
    workspace.create()
    found = Incident(workspace, [{"at": at} for at in workspace.happened["at"]])
    _record(workspace)
    with serving(SYSTEM, folder):
        url = url_of(SYSTEM, folder)
        for name in ("v1", "v2", "v3"):
            found.sagas[name] = _promote(workspace, name)
        with clients(url, found.pool) as found.clients:
            _go_back(found, found.clients)
            _go_on(found, found.clients)
    return found


def _record(workspace: Workspace) -> None:
    first = workspace.build("Plan by the calendar and the weather")
    workspace.adopt()
    workspace.record("v1", first)

    workspace.edit("params.yaml", features={"before": 168})
    workspace.edit("config/planning.yaml", margin=1.05)
    workspace.staff(3)
    workspace.record(
        "v2", workspace.build("Remember the same hour of the week before; a smaller margin")
    )

    # Two mistakes under the same names: the hour before is not yet counted when the
    # week is planned, and the temperature is in another unit from here on.
    late = workspace.append_late_counts()
    workspace.edit("params.yaml", rentals=late, features={"before": 1, "degrees": 41})
    workspace.staff(4)
    workspace.record(
        "v3", workspace.build("Remember the hour before; temperatures in degrees Celsius")
    )


def _go_back(found: Incident, asking: Clients) -> None:
    folder, versions = found.workspace.folder, found.workspace.versions
    asking.answered_by(versions["v3"].release)
    found.see("v3")
    found.refused = ebbtide("rollback", "model", SYSTEM, "--yes", cwd=folder, expect=None)
    found.see("refused")
    found.sagas["rollback"] = asked(
        "rollback", SYSTEM, "--yes", "--reason", "far too few bikes", cwd=folder
    )
    asking.answered_by(versions["v2"].release)
    found.see("rolled back")


def _go_on(found: Incident, asking: Clients) -> None:
    """A further release changes the model alone; then the model alone goes back."""
    workspace = found.workspace
    workspace.edit("params.yaml", rentals=0, features={"before": 168, "degrees": 1})
    workspace.edit("params.yaml", train={"trees": 90})
    workspace.record("v4", workspace.build("More trees"))
    found.sagas["v4"] = _promote(workspace, "v4")
    asking.answered_by(workspace.versions["v4"].release)
    found.see("v4")
    found.sagas["model"] = asked("rollback", "model", SYSTEM, "--yes", cwd=workspace.folder)
    asking.answered_by(str(found.sagas["model"]["target"]))
    found.see("model rolled back")


def _promote(workspace: Workspace, name: str) -> Mapping[str, Any]:
    release = workspace.versions[name].release
    done: Mapping[str, Any] = asked("promote", SYSTEM, release, "--yes", cwd=workspace.folder)
    return done


def shown(workspace: Workspace) -> Mapping[str, Any]:
    """What each outside store shows now, by readers that are not ebbtide's."""
    folder = workspace.folder
    return {
        "route": stores.route(workspace.journal),
        "model": stores.alias(folder, MODEL, "champion"),
        **{layer: stores.folder(folder / "live" / path) for layer, path in _LIVE.items()},
        "crews": stores.table(folder / "tables/crews"),
        "rentals": stores.table(folder / "tables/rentals"),
    }


def as_released(workspace: Workspace, name: str) -> Mapping[str, Any]:
    """What each must show while a version serves, from what was kept of it aside."""
    version, folder = workspace.versions[name], workspace.folder
    return {
        "route": version.release,
        "model": version.model,
        "features": stores.folder(version.aside / "features"),
        "config": stores.committed(folder, version.commit, "config"),
        "infra": stores.committed(folder, version.commit, "serving"),
        "crews": stores.table(folder / "tables/crews", version.crews),
        "rentals": stores.table(folder / "tables/rentals", workspace.rentals),
    }
