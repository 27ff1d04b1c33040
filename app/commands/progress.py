"""Shows how far a long command is: a bar on a terminal, one line a finished step elsewhere."""

from collections.abc import Iterator
from contextlib import contextmanager
from time import monotonic
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as Bars


class Steps(Protocol):
    """Told after each piece of work: the step's name, the pieces done, and how many there are (0 if nobody knows)."""

    def __call__(self, step: str, done: int, total: int) -> None:
        """Show it."""


@contextmanager
def steps(console: Console | None = None) -> Iterator[Steps]:
    """Show steps on the standard error stream for as long as the block runs."""
    console = console or Console(stderr=True)
    if not console.is_terminal:
        lines = _Lines(console)
        try:
            yield lines
        finally:
            lines.finish()
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Bars(*columns, TimeRemainingColumn(), console=console) as bars:
        yield _Bars(bars)


class _Bars:
    """A bar a step."""

    def __init__(self, bars: Bars) -> None:
        self._bars = bars
        self._tasks: dict[str, TaskID] = {}

    def __call__(self, step: str, done: int, total: int) -> None:
        if step not in self._tasks:
            self._tasks[step] = self._bars.add_task(step, total=total or None)
        self._bars.update(self._tasks[step], completed=done, total=total or None)


class _Lines:
    """A line when the next step begins, and after the last one."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._step, self._done, self._began = "", "", 0.0

    def __call__(self, step: str, done: int, total: int) -> None:
        if step != self._step:
            self.finish()
            self._step, self._began = step, monotonic()
        self._done = f"{done} of {total}" if total else str(done)

    def finish(self) -> None:
        """Write the line of the step under way, if any."""
        if self._step:
            seconds = monotonic() - self._began
            self._console.print(f"{self._step}: {self._done} in {seconds:.1f} s", highlight=False)
        self._step = ""
