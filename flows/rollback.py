"""The rollback flows, one for each level, as a person or a schedule starts them in Prefect."""

from functools import partial
from typing import Any

from prefect import State, flow

from ebbtide.core.errors import Refused
from ebbtide.core.planner import Order
from ebbtide.core.ports import World
from ebbtide.core.saga import Level
from flows.flow_run import follow
from flows.systems import open_named


@flow(name="rollback-model", flow_run_name="rollback the model of {system}", retries=0)
async def rollback_model(
    system: str,
    ordered_by: str,
    version: str = "",
    to: str = "",
    reason: str = "",
    accept_unproved: bool = False,
    systems: str = "",
) -> State[Any]:
    """Put an earlier model back; everything else stays. Refused where the rest does not fit it.

    Args:
        system: The system to roll back, as its system file is named, such as `shop-search`.
        ordered_by: Who orders this; it goes into the audit trail.
        version: The registry version that shall serve, such as `7`. Where the system has several
            models: `name=version, name=version`. Empty: the model of the release in `to`.
        to: A release, by its id or the first 6 digits and more. Empty: the last one proved good.
        reason: Why; it goes into the audit trail and the quarantine.
        accept_unproved: Also take a release that was never proved good in production.
        systems: The folder of the system files. Empty: EBBTIDE_SYSTEMS, else configs/systems.
    """

    def ask(world: World) -> Order:
        return Order(
            level=Level.MODEL,
            by=ordered_by,
            to=to.strip(),
            models=things_asked(world, "model", version),
            reason=reason,
            accept_unproved=accept_unproved,
        )

    return await follow(partial(open_named, system, systems), ask)


@flow(name="rollback-system", flow_run_name="rollback {system}", retries=0)
async def rollback_system(
    system: str,
    ordered_by: str,
    to: str = "",
    reason: str = "",
    accept_unproved: bool = False,
    systems: str = "",
) -> State[Any]:
    """Put an earlier release back in every layer: model, features, data, configuration, prompts.

    Args:
        system: The system to roll back, as its system file is named, such as `shop-search`.
        ordered_by: Who orders this; it goes into the audit trail.
        to: A release, by its id or the first 6 digits and more. Empty: the last one proved good.
        reason: Why; it goes into the audit trail and the quarantine.
        accept_unproved: Also take a release that was never proved good in production.
        systems: The folder of the system files. Empty: EBBTIDE_SYSTEMS, else configs/systems.
    """
    order = Order(
        level=Level.SYSTEM,
        by=ordered_by,
        to=to.strip(),
        reason=reason,
        accept_unproved=accept_unproved,
    )
    return await follow(partial(open_named, system, systems), lambda _: order)


@flow(name="rollback-features", flow_run_name="rollback the features of {system}", retries=0)
async def rollback_features(
    system: str,
    ordered_by: str,
    commits: str = "",
    to: str = "",
    base: str = "",
    safe: str = "",
    reason: str = "",
    systems: str = "",
) -> State[Any]:
    """Put an earlier feature pipeline back, with a model that was trained on its features.

    A safe release serves while features are recomputed and a model is found or trained.

    Args:
        system: The system to roll back, as its system file is named, such as `shop-search`.
        ordered_by: Who orders this; it goes into the audit trail.
        commits: The commit of the pipeline. Where the system has several feature sets:
            `name=commit, name=commit`. Empty: those of the release in `to`.
        to: A release, by its id or the first 6 digits and more. Empty: the last one proved good.
        base: The release whose other layers stay. Empty: the live one.
        safe: What serves meanwhile. Empty: the last release proved good.
        reason: Why; it goes into the audit trail and the quarantine.
        systems: The folder of the system files. Empty: EBBTIDE_SYSTEMS, else configs/systems.
    """

    def ask(world: World) -> Order:
        return Order(
            level=Level.FEATURES,
            by=ordered_by,
            to=to.strip(),
            features=things_asked(world, "features", commits),
            base=base.strip(),
            safe=safe.strip(),
            reason=reason,
        )

    return await follow(partial(open_named, system, systems), ask)


@flow(name="rollback-data", flow_run_name="rollback the data of {system}", retries=0)
async def rollback_data(
    system: str,
    ordered_by: str,
    versions: str = "",
    to: str = "",
    base: str = "",
    safe: str = "",
    reason: str = "",
    systems: str = "",
) -> State[Any]:
    """Restore tables to earlier versions, with features built and a model trained on them.

    A safe release serves meanwhile. What was written since stays in the tables' history.

    Args:
        system: The system to roll back, as its system file is named, such as `shop-search`.
        ordered_by: Who orders this; it goes into the audit trail.
        versions: `table=version, table=version`, such as `orders=41`. Empty: all tables as the
            release in `to` pins them.
        to: A release, by its id or the first 6 digits and more. Empty: the last one proved good.
        base: The release whose other layers stay. Empty: the live one.
        safe: What serves meanwhile. Empty: the last release proved good.
        reason: Why; it goes into the audit trail and the quarantine.
        systems: The folder of the system files. Empty: EBBTIDE_SYSTEMS, else configs/systems.
    """

    def ask(world: World) -> Order:
        return Order(
            level=Level.DATA,
            by=ordered_by,
            to=to.strip(),
            tables=things_asked(world, "data", versions),
            base=base.strip(),
            safe=safe.strip(),
            reason=reason,
        )

    return await follow(partial(open_named, system, systems), ask)


def things_asked(world: World, layer: str, text: str) -> dict[str, str]:
    """`7` for the only thing of a layer, or `name=version, ...`. Raises `Refused`."""
    parts = [part.strip() for part in text.split(",") if part.strip()]
    if len(parts) == 1 and "=" not in parts[0]:
        names = world.layers[layer].names if layer in world.layers else ()
        if len(names) != 1:
            raise Refused(
                f"Layer {layer} of {world.system} has {len(names)} things: {', '.join(names)}.",
                remedy="Say which: name=version.",
            )
        return {names[0]: parts[0]}
    pairs = [part.partition("=") for part in parts]
    wrong = [part for part, pair in zip(parts, pairs, strict=True) if not all(pair)]
    if wrong:
        raise Refused(f"{wrong[0]!r} is not `name=version`.")
    return {name.strip(): version.strip() for name, _, version in pairs}
