"""Progress of a sweep on stderr, with an estimate of the time left."""

import time
from collections.abc import Mapping

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from cl_nvrm.spec import RunResult, RunSpec


class SweepProgress:
    """A bar on a terminal, a line a run elsewhere; ``names`` says what to call each cell; silent if ``quiet``."""

    def __init__(self, console: Console, runs: int, names: Mapping[RunSpec, str], *, quiet: bool = False) -> None:
        self.console, self.runs, self.names, self.quiet = console, runs, names, quiet
        self.finished = 0
        self.start = time.monotonic()
        self.bar = Progress(
            TextColumn("runs"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(elapsed_when_finished=False),
            console=console,
            disable=quiet or not console.is_terminal,
            transient=True,
        )
        self.task = self.bar.add_task("runs", total=runs)

    def __enter__(self) -> "SweepProgress":
        self.bar.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.bar.stop()

    def part(self, share: float) -> None:
        """Hear the share of the present run that is done."""
        self._show(self.finished + share)
        if not self.quiet and not self.console.is_terminal and share < 1:
            self._say(f"run {self.finished + 1} of {self.runs}: {share:.0%}", self.finished + share)

    def done(self, result: RunResult) -> None:
        """Hear of a finished run."""
        self.finished += 1
        self._show(self.finished)
        if not self.quiet:
            seconds = result.train_seconds + result.eval_seconds
            name = f"{self.names[result.spec.cell]}, seed {result.spec.seed}"
            self._say(f"run {self.finished} of {self.runs}: {result.status} in {seconds:.0f} s ({name})", self.finished)

    def _show(self, completed: float) -> None:
        self.bar.update(self.task, completed=completed)

    def _say(self, line: str, completed: float) -> None:
        left = (self.runs - completed) * (time.monotonic() - self.start) / completed
        if completed < self.runs:
            line += f", about {left / 60:.0f} min left" if left > 90 else f", about {left:.0f} s left"
        self.console.print(line, soft_wrap=True, highlight=False)
