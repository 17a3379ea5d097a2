"""Tables whose ids and commands can be copied, however narrow the terminal is.

Only columns of free text are wrapped. Where the others do not fit beside each
other, the rows are told one below the other, and the terminal itself wraps
what is longer than a line: nothing is ever folded or cut.
"""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field

from rich import box
from rich.cells import cell_len
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table as Drawn
from rich.text import Text

_WIDE = 10_000
_NARROWEST = 10
"""Cells that a column of free text has at least, or all that it needs."""
_INDENT = "  "
_BETWEEN = "   "


@dataclass(frozen=True, slots=True)
class Table:
    """Rows to be shown. A cell that is a `str` is shown as it is: it may be anybody's text."""

    title: str
    columns: Sequence[str]
    free: Collection[str] = ()
    """Columns of text for people, which may be wrapped."""
    rows: list[tuple[Text, ...]] = field(default_factory=list)

    def add_row(self, *cells: str | Text) -> None:
        self.rows.append(tuple(Text(cell) if isinstance(cell, str) else cell for cell in cells))

    def show(self, out: Console) -> None:
        widths = self._widths(out)
        if widths is None:
            for line in self._below_each_other(out.width):
                out.print(line, soft_wrap=True)
        else:
            out.print(self._drawn(widths))

    def _widths(self, out: Console) -> list[int] | None:
        """Cells of each column; None where they do not fit without folding."""
        natural = [max(map(cell_len, self._lines(n)), default=0) for n in range(len(self.columns))]
        least = [
            min(natural[n], max(_NARROWEST, *map(cell_len, self._words(n))))
            if name in self.free
            else natural[n]
            for n, name in enumerate(self.columns)
        ]
        whole = Measurement.get(out, out.options.update(width=_WIDE), self._drawn(natural)).maximum
        room = out.width - (whole - sum(natural)) - sum(least)
        if room < 0:
            return None
        widths = least.copy()
        for n in reversed(range(len(widths))):  # notes and reasons stand last
            more = min(room, natural[n] - least[n])
            widths[n] += more
            room -= more
        return widths

    def _lines(self, n: int) -> Iterator[str]:
        yield self.columns[n]
        for row in self.rows:
            yield from row[n].plain.split("\n")

    def _words(self, n: int) -> Iterator[str]:
        yield ""
        for line in self._lines(n):
            yield from line.split()

    def _drawn(self, widths: Sequence[int]) -> Drawn:
        drawn = Drawn(title=self.title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
        for name, width in zip(self.columns, widths, strict=True):
            drawn.add_column(name, width=width, no_wrap=name not in self.free, overflow="fold")
        for row in self.rows:
            drawn.add_row(*row)
        return drawn

    def _below_each_other(self, width: int) -> Iterator[Text]:
        if self.title:
            yield Text(self.title, style="italic")
        for first, *others in self.rows:
            if first.plain:
                yield Text(style="bold").append_text(first)
            named = zip(self.columns[1:], others, strict=True)
            yield from _packed([_item(name, cell) for name, cell in named if cell.plain], width)


def _item(name: str, cell: Text) -> Text:
    return Text(f"{name} " if name else "", style="dim").append_text(cell)


def _packed(items: Sequence[Text], width: int) -> Iterator[Text]:
    """As many items on a line as fit; one that does not fit has a line of its own, whole."""
    line = Text()
    for item in items:
        if line and cell_len(line.plain) + len(_BETWEEN) + cell_len(item.plain) > width:
            yield line
            line = Text()
        line = line + Text(_BETWEEN if line else _INDENT) + item
    if line:
        yield line
