"""Which effects wait for somebody, and the command that lets them go on."""

from ebbtide.core.effects import Effect, Hold, State
from ebbtide.core.ports import World
from ebbtide.core.saga import SagaState


def gave_up(world: World) -> list[Effect]:
    """Effects that failed and can be sent after all, undos among them, in their order.

    Of a release that was rolled back only undos: nothing else of it is sent any
    more, and what it has left to correct is in its saga's list.
    """
    denied = world.journal.quarantined(world.system)
    failed = world.journal.effects(world.system, state=State.FAILED)
    return [
        effect
        for effect in failed
        if not effect.forgotten and (effect.undoes or effect.release not in denied)
    ]


def queued(world: World) -> list[Effect]:
    """What has yet to be sent, in its order; while dispatch is held, what the hold keeps back."""
    return world.journal.effects(world.system, state=State.QUEUED)


def retried_by(effect: Effect) -> str:
    """The command that sends an effect after all, once its cause is mended."""
    return f"ebbtide effects {effect.system} --retry {effect.key} --reason TEXT"


def let_go_by(world: World, hold: Hold) -> str:
    """The command after which dispatch goes on; of a saga that is under way, what shows it."""
    system, saga = world.system, world.journal.saga(hold.saga)
    if saga.state is not SagaState.OPEN:
        return f"ebbtide recover {system} --saga {saga.id}"
    if any(saga.id == each.id for each in world.journal.abandoned(system)):
        return f"ebbtide recover {system}"
    return f"ebbtide history {system} {saga.id}"
