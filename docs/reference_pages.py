"""The reference, as Markdown, from the code that it is about. `docs/hooks.py` asks for it."""

import inspect
from collections import defaultdict
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from typing import Any

import reference_command_line
import reference_system_file
import yaml
from markup import page, table
from sources import attribute_docs, parameters

ROOT = Path(__file__).parent.parent

_STEPS = """
# Steps

Every step of every saga, in the order in which they run. The table is `flows/levels.py` itself:
`ebbtide plan` prints the rows that one order would run.

A step that names a layer runs only where the move changes that layer. Where a proof is not passed,
every step that was begun is taken back, newest first. After the phase *prove* nothing is taken
back: what cannot be settled ends the saga as `needs human`.
"""
_EXIT_CODES = """
# Exit codes

A command that runs a saga ends with how the saga ended. A command that never began one, or only
reads, ends with the fault that stopped it, and with 0 where there was none.

Reading commands have findings, too: `ebbtide plan` ends with 3 where the preflight gates would
refuse the order, `ebbtide verify` with 7 where something is not what it should be, and
`ebbtide doctor` with 9, 10 or 7 as [its help](cli.md#doctor) says.

Codes never change their meaning. Branch on the code, not on the text.
"""
_METRICS = """
# Metrics

Each replica of `ebbtide serve` answers `GET /metrics` in Prometheus' text format.
"""
_LABELS = """
`release` is the full id, and empty where nothing was served. `outcome` of a cache request is `hit`,
`ahead` (answered by the release itself before its epoch began), `miss` or `off`.
"""
_PREFECT = """
# Prefect deployments

What `prefect.yaml` deploys. Each flow can be started from Prefect's UI, its API, a schedule or an
automation. Each do, prove and take-back is a task run of its own.

```sh
prefect work-pool create --type process ebbtide
prefect --no-prompt deploy --all
prefect worker start --pool ebbtide
```
"""


def steps() -> str:
    """The step table, phase by phase."""
    from ebbtide.core.saga import Level, Phase
    from ebbtide.core.step import nothing, says
    from flows.levels import STEPS

    parts = [_STEPS]
    for phase in Phase:
        rows = [
            (
                f"`{row.name}`{_where(row.layer)}",
                "all" if row.levels >= {*Level} else ", ".join(sorted(row.levels)),
                says(row.do.do) if row.do else "only looks",
                says(row.prove),
                says(row.undo) if row.undo is not nothing else "nothing to take back",
            )
            for row in STEPS
            if row.phase is phase
        ]
        heads = ("step", "levels", "does", "is proved by", "or else taken back by")
        parts += [f"## {phase.value.capitalize()}", table(heads, rows)]
    return page(parts)


def exit_codes() -> str:
    """What the command line ends with, by the errors and by how a saga ended."""
    from ebbtide.core.saga import SagaState
    from ebbtide.entrypoints.cli.changing import EXIT

    ends = attribute_docs(SagaState)
    by_code: dict[int, list[tuple[str, str]]] = defaultdict(list)
    for state, code in EXIT.items():
        by_code[code].append((f"saga `{state.value}`", ends.get(state.name, "")))
    for fault in _errors():
        says = inspect.cleandoc(fault.__doc__ or "").partition("\n")[0]
        by_code[fault.exit_code].append((f"`{fault.__name__}`", says))
    by_code[2].append(("usage", "Wrong arguments or options."))
    by_code[130].append(
        ("interrupt", "Ctrl-C. A saga that this stops is taken back, and ends with 1.")
    )
    rows = [(str(code), what, says) for code in sorted(by_code) for what, says in by_code[code]]
    return page([_EXIT_CODES, table(("code", "when", "meaning"), rows)])


def metrics() -> str:
    """What `/metrics` of a replica tells."""
    from prometheus_client.metrics import MetricWrapperBase

    from ebbtide.entrypoints.gateway.metrics import Metrics

    rows = []
    for series in vars(Metrics("system", "replica")).values():
        if isinstance(series, MetricWrapperBase):
            (family,) = series.describe()
            name = family.name + ("_total" if family.type == "counter" else "")
            labels = series._labelnames  # noqa: SLF001 - the client has no public way
            shown = ", ".join(f"`{label}`" for label in labels)
            rows.append((f"`{name}`", family.type, shown, family.documentation))
    about = [("`kind`", Metrics.error.__doc__ or ""), ("`outcome`", Metrics.log_rows.__doc__ or "")]
    series_told = table(("series", "type", "labels", "meaning"), sorted(rows))
    return page([_METRICS, series_told, _LABELS, table(("label", "values"), about)])


def prefect() -> str:
    """The deployments of prefect.yaml, with the parameters of their flows."""
    deployed = yaml.safe_load((ROOT / "prefect.yaml").read_text())
    parts = [_PREFECT]
    for deployment in deployed["deployments"]:
        module, _, name = deployment["entrypoint"].rpartition(".")
        source = (ROOT / (module.replace(".", "/") + ".py")).read_text()
        schedules = [str(each.get("cron", each)) for each in deployment.get("schedules", [])]
        about = [
            ("flow", f"`{deployment['entrypoint']}`"),
            ("work pool", deployment["work_pool"]["name"]),
            ("tags", ", ".join(deployment.get("tags", [])) or "none"),
            ("schedules", ", ".join(schedules) or "none"),
        ]
        given = [
            (f"`{key}`", f"`{default}`" if default else "required", says)
            for key, default, says in parameters(source, name)
        ]
        parts += [f"## {deployment['name']}", deployment.get("description", "")]
        parts += [table(("", ""), about), table(("parameter", "default", "meaning"), given)]
    return page(parts)


PAGES: dict[str, Callable[[], str]] = {
    "steps": steps,
    "configuration": reference_system_file.write,
    "cli": reference_command_line.write,
    "exit-codes": exit_codes,
    "metrics": metrics,
    "prefect": prefect,
}


def _where(layer: str) -> str:
    from ebbtide.core.saga import OTHERS

    if layer == OTHERS:
        return " where a layer of your own changes"
    return f" where `{layer}` changes" if layer else ""


def _errors() -> list[Any]:
    """Every error of the core, the general ones first."""
    from ebbtide import core
    from ebbtide.core.errors import EbbtideError

    for module in iter_modules(core.__path__, "ebbtide.core."):
        import_module(module.name)
    found: list[Any] = [EbbtideError]
    for fault in found:
        found += [each for each in fault.__subclasses__() if ".core." in each.__module__]
    return found
