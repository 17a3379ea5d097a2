"""Gates of the user's own, that the system file names. All are asked; the worst wins."""

from ebbtide.core.errors import EbbtideError
from ebbtide.core.gates import Finding, Verdict, passed, worst
from ebbtide.core.ports import OwnGate, World
from ebbtide.core.saga import Move, Phase


def preflight_gates_pass(world: World, move: Move) -> Finding:
    """Every gate of your own that the system file names for the preflight passes."""
    return _asked(world, move, Phase.PREFLIGHT)


def proof_gates_pass(world: World, move: Move) -> Finding:
    """Every gate of your own that the system file names for the proof passes."""
    return _asked(world, move, Phase.PROVE)


def _asked(world: World, move: Move, phase: Phase) -> Finding:
    gates = world.own_gates.get(phase)
    if not gates:
        return passed("the system file names no gates of its own")
    return worst([_found(name, gate, world, move) for name, gate in gates.items()])


def _found(name: str, gate: OwnGate, world: World, move: Move) -> Finding:
    """What one gate finds. One that is missing, raises or gives no finding has not passed."""
    try:
        found = gate(world, move)
    except EbbtideError as fault:
        return Finding(Verdict.ERRORED, f"{name}: {fault.message}", remedy=fault.remedy)
    except Exception as fault:  # noqa: BLE001 - code of the user's own may raise anything
        return Finding(Verdict.ERRORED, f"{name}: {type(fault).__name__}: {fault}")
    if not isinstance(found, Finding):
        return Finding(Verdict.ERRORED, f"{name} gave no finding but {found!r}")
    return Finding(found.verdict, f"{name}: {found.why}", found.measured, found.remedy)
