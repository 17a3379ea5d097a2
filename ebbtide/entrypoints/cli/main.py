"""`ebbtide`: the commands, how faults end them, and with which exit code."""

import sys

import typer

from ebbtide.core.errors import EbbtideError
from ebbtide.entrypoints.cli import (
    changing,
    data,
    doctor,
    effects,
    giving_up,
    outputs,
    quarantine,
    reading,
    recovering,
    refreshing,
    releases,
    running,
    schema,
)
from ebbtide.entrypoints.cli.init import command as init

app = typer.Typer(
    name="ebbtide",
    help="Roll a whole AI system back: model, features, data, configuration, prompts, caches.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("init")(init.init)
app.command("rollback")(changing.rollback)
app.command("promote")(changing.promote)
app.command("release")(changing.release)
app.command("refresh")(refreshing.refresh)
app.command("gc")(giving_up.gc)
app.command("lift-quarantine")(quarantine.lift_quarantine)
app.command("recover")(recovering.recover)
app.command("plan")(reading.plan)
app.command("status")(reading.status)
app.command("releases")(releases.releases)
app.command("diff")(reading.diff)
app.command("history")(reading.history)
app.command("export-rows")(data.export_rows)
app.command("outputs")(outputs.outputs)
app.command("invalidate")(outputs.invalidate)
app.command("effects")(effects.effects)
app.command("verify")(reading.verify)
app.command("doctor")(doctor.doctor)
app.command("schema")(schema.schema)
app.command("serve")(running.serve)
app.command("demo")(running.demo)


def main() -> None:
    """Run a command; a fault of ebbtide's own ends it with a sentence and its exit code."""
    try:
        app()
    except EbbtideError as fault:
        _say(fault.message, fault.remedy)
        sys.exit(fault.exit_code)
    except KeyboardInterrupt:
        _say("Interrupted.", "`ebbtide status` says where the system stands.")
        sys.exit(130)


def _say(message: str, remedy: str) -> None:
    print(f"ebbtide: {message}", file=sys.stderr)
    if remedy:
        print(f"  {remedy}", file=sys.stderr)
