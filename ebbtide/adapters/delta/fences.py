"""A fence in the table itself: a property that whoever writes through ebbtide reads.

It is a change of metadata, and Delta rejects every append that was begun on an
older version than such a change. So a writer either sees the fence in the
version that it writes on, or its commit is rejected, or it was there before.
"""

from typing import TYPE_CHECKING, Any

from ebbtide.adapters.delta.history import SAGA, folder_of, others_since
from ebbtide.adapters.delta.versions import (
    lost_properties,
    make_durable,
    refuse_away,
    said,
)
from ebbtide.core.crashpoints import reach
from ebbtide.core.errors import Conflict, EbbtideError
from ebbtide.core.fencing import still_ours

if TYPE_CHECKING:
    from deltalake import DeltaTable

_FENCE = "ebbtide.fence."
_ATTEMPTS = 30
"""A fence is rebased so often over what others append meanwhile."""
_ROUNDS = 5
"""Then it is set anew on the newest version: as after another's change of metadata."""


def hold(table: "DeltaTable", name: str, system: str, saga: str) -> None:
    """Raise the system's fence on the newest version, on disk when this returns."""
    if standing(table, system) != saga:
        _commit(table, name, {_FENCE + system: saga}, saga)


def let_go(table: "DeltaTable", name: str, system: str) -> None:
    """Take the system's fence down."""
    saga = standing(table, system)
    if saga:
        _commit(table, name, {_FENCE + system: ""}, saga)


def standing(table: "DeltaTable", system: str) -> str:
    """The saga whose fence of that system is up; empty where none is."""
    return all_standing(table).get(system, "")


def all_standing(table: "DeltaTable") -> dict[str, str]:
    """The sagas whose fences are up, by system.

    Also in the moment between a restore, which reverts all properties, and the
    commit that gives them back.
    """
    properties = {**table.metadata().configuration, **lost_properties(table)}
    return {
        name.removeprefix(_FENCE): saga
        for name, saga in properties.items()
        if name.startswith(_FENCE) and saga
    }


def _commit(table: "DeltaTable", name: str, properties: dict[str, str], saga: str) -> None:
    for _ in range(_ROUNDS):
        if _committed(table, name, properties, saga):
            break
    else:
        raise Conflict(
            f"The fence of table `{name}` could not be set over what others commit. "
            f"{others_since(table)}".strip(),
            remedy="Stop its writers and try again.",
        )
    reach("fences.set/committed")
    folder = folder_of(table)
    if folder is not None:
        make_durable(folder / "_delta_log")


def _committed(table: "DeltaTable", name: str, properties: dict[str, str], saga: str) -> bool:
    """One attempt on the newest version that is known; False where others were faster.

    An object store may do what it is asked and its answer be lost: asked again, it
    says that this version was committed already. So what is there now is looked at.
    """
    from deltalake.exceptions import CommitFailedError, DeltaError

    # What an unfinished restore still owes: this commit would hide that it does.
    owed = {key: value for key, value in lost_properties(table).items() if key not in properties}
    wanted = {**owed, **properties}
    still_ours()
    try:
        table.alter.set_table_properties(wanted, raise_if_not_exists=False, **_options(saga))
    except CommitFailedError:
        table.update_incremental()
        return wanted.items() <= table.metadata().configuration.items()
    except DeltaError as fault:
        refuse_away(fault)
        raise EbbtideError(f"The fence of table `{name}` cannot be set: {said(fault)}") from fault
    return True


def _options(saga: str) -> dict[str, Any]:
    from deltalake import CommitProperties, PostCommitHookProperties

    return {
        "commit_properties": CommitProperties({SAGA: saga}, max_commit_retries=_ATTEMPTS),
        "post_commithook_properties": PostCommitHookProperties(
            create_checkpoint=False, cleanup_expired_logs=False
        ),
    }
