"""Puts questions to a person, or takes the defaults where nobody is to be asked."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import typer

from ebbtide.core.errors import Refused

NONE = "none"
"""The answer that leaves something out."""


@dataclass(frozen=True, slots=True)
class Asker:
    """Puts questions to a person, or takes the defaults."""

    yes: bool

    def one(
        self, question: str, default: str | None, flag: str, choices: Sequence[str] = ()
    ) -> str:
        """An answer. Raises `Refused` where there is nobody to ask and no default."""
        if self.yes:
            if default is None:
                raise Refused(f"{question}: nobody is asked, and no default is safe.", remedy=flag)
            return default
        while True:
            said = str(self._prompt(question, default)).strip()
            if said and (not choices or said in choices):
                return said
            typer.echo(f"One of: {', '.join(choices)}." if choices else "An answer is needed.")

    def some(
        self, question: str, choices: Sequence[str], default: Sequence[str] | None, flag: str
    ) -> list[str]:
        """Some of the choices, separated by commas; `none`: none of them."""
        joined = None if default is None else ", ".join(default) or NONE
        while True:
            said = self.one(question, joined, flag)
            names = [] if said == NONE else [name.strip() for name in said.split(",")]
            wrong = [name for name in names if name not in choices]
            if not wrong:
                return names
            typer.echo(f"`{wrong[0]}` is none of: {', '.join(choices)}.")

    def sure(self, question: str) -> bool:
        return self.yes or bool(_answered(lambda: typer.confirm(question, default=True), question))

    def _prompt(self, question: str, default: str | None) -> Any:
        return _answered(lambda: typer.prompt(question, default=default), question)


def _answered(ask: Callable[[], Any], question: str) -> Any:
    """What a person says. The end of input is no answer: `Refused`."""
    try:
        return ask()
    except typer.Abort as fault:
        if isinstance(fault.__context__, KeyboardInterrupt):
            raise KeyboardInterrupt from fault
        raise Refused(
            f"No answer to: {question}. Nothing was written.",
            remedy="Say --yes for the defaults, with flags for all else.",
        ) from fault
