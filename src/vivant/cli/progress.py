"""Progress on the terminal: done, rate and time left. Nothing is drawn where no terminal is watching."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text


class _Rate(ProgressColumn):
    """Things per second."""

    def __init__(self, unit: str) -> None:
        super().__init__()
        self.unit = unit

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text(f"{speed:.1f} {self.unit}/s" if speed else "", style="cyan")


@contextmanager
def progress_of(unit: str, *, quiet: bool = False) -> Iterator[Callable[..., None]]:
    """A function of done, expected (None where nobody knows) and a note; the bar goes away at the end."""
    console = Console(stderr=True)
    columns = (BarColumn(), MofNCompleteColumn(), TextColumn(unit), _Rate(unit), TimeRemainingColumn())
    note_column = TextColumn("{task.fields[note]}")
    with Progress(
        *columns, note_column, console=console, transient=True, disable=quiet or not console.is_terminal
    ) as progress:
        task = progress.add_task(unit, total=None, note="")

        def report(done: int, expected: int | None, note: str = "") -> None:
            total = max(expected, done) if expected else None
            progress.update(task, completed=done, total=total, note=note)

        yield report
