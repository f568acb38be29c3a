"""Tables: what is said of cells, as plain values that every format renders."""

from collections.abc import Sequence
from dataclasses import dataclass

from cl_nvrm.analysis.bounds import Share
from cl_nvrm.analysis.comparisons import Cell, Paired
from cl_nvrm.analysis.metrics import METRICS, base_task, mean_accuracy, metric
from cl_nvrm.analysis.permutation import FEWEST_EXACT
from cl_nvrm.analysis.stats import (
    FEWEST,
    Interval,
    bootstrap_interval,
    mean_sd,
    stars,
    t_interval,
)


@dataclass(frozen=True)
class Entry:
    """A cell of a table: the text, what it sorts by, and a remark such as why there is no value."""

    text: str
    sort: float | None = None
    remark: str = ""


@dataclass(frozen=True)
class Table:
    """A titled table of entries with a note below; the first ``texts`` columns name the row, the others are numbers."""

    name: str
    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[Entry, ...], ...]
    note: str = ""
    texts: int = 1


CURVES = {"base task": base_task, "mean accuracy": mean_accuracy}


def after_each_task(cell: Cell) -> Table:
    """Return base-task and mean accuracy (%) after each task, mean ± standard deviation over the finished trials.

    Of a single task, the metrics there are. The note tells of trials that did not finish.
    """
    done = cell.done
    title = f"{cell.name}  (n = {len(done)}, %{memory(cell)})"
    unfinished = "\n".join(
        f"{cell.name}, seed {r.spec.seed}: {r.status} ({r.error})"
        + (f"; accuracy up to task {len(r.accuracy)} is kept" if r.accuracy else "")
        for r in cell.results
        if r.status != "done"
    )
    if not done:
        return Table("tasks", title, (), (), unfinished)
    tasks = len(done[0].accuracy)
    if tasks == 1:
        found = {name: list(cell.values(name).values()) for name in METRICS}
        found = {name: values for name, values in found.items() if values}
        return Table("tasks", title, tuple(found), (tuple(map(_percent, found.values())),), unfinished, texts=0)
    rows = tuple(
        (Entry(name), *map(_percent, zip(*(curve(r.accuracy) for r in done), strict=True)))
        for name, curve in CURVES.items()
    )
    return Table("tasks", title, ("after task", *(str(task + 1) for task in range(tasks))), rows, unfinished)


def memory(cell: Cell) -> str:
    """Return what a run keeps at its end beside the network, "; memory 200 samples, 0.63 MB", or "" if nothing."""
    told = [
        points[-1]
        for result in cell.done[:1]
        for points in result.diagnostics.values()
        if isinstance(points, list) and points and isinstance(points[-1], dict)
    ]
    samples, size = (sum(each.get(key, 0) for each in told) for key in ("memory_samples", "memory_bytes"))
    parts = [f"{samples} samples"] * bool(samples) + [f"{size / 1e6:.2f} MB"] * bool(size)
    return f"; memory {', '.join(parts)}" if parts else ""


def _percent(values: Sequence[float]) -> Entry:
    """The mean in percent, with the standard deviation where there is more than one value."""
    mean, sd = mean_sd([100 * v for v in values])
    return Entry(f"{mean:.1f} ± {sd:.1f}" if len(values) > 1 else f"{mean:.1f}", mean)


STARS = "* p < 0.05, ** p < 0.01, *** p < 0.001"


def about_tests(compared: Sequence[Paired]) -> str:
    """Return what the stars of comparisons mean, what p is adjusted for, and what keeps stars away."""
    notes = []
    kinds = {True: [row for row in compared if row.primary], False: [row for row in compared if not row.primary]}
    if any(row.found.n >= FEWEST for row in compared):
        notes.append(f"{STARS}: sign-flip test of the seeds' differences.")
        if kinds[True]:
            adjusted = ", adjusted for one another" if len(kinds[True]) > 1 else ", not adjusted"
            notes.append(f"Primary contrasts were named before the runs{adjusted}.")
        if len(kinds[False]) > 1:
            others = "all others" if kinds[True] else "all rows, whatever the metric"
            notes.append(f"p is adjusted for {others} ({len(kinds[False])}, max-T by the same flips).")
        notes += _out_of_reach(kinds[False])
    least = min(row.found.n for row in compared)
    if least < FEWEST:
        notes.append(f"With fewer than {FEWEST} seeds nothing is marked as significant; some here have {least}.")
    counted = {row.first: row.diverged[0] for row in compared} | {row.second: row.diverged[1] for row in compared}
    notes += [
        f"{number} of {name} diverged, and count as the worst value in differences."
        for name, number in counted.items()
        if number
    ]
    return " ".join(notes)


def _out_of_reach(compared: Sequence[Paired]) -> list[str]:
    few = [row.found.n for row in compared if FEWEST <= row.found.n < FEWEST_EXACT]
    return (
        [f"With {few[0]} seeds even the clearest difference has p = {2.0 ** (1 - few[0]):.2f}: no star can appear."]
        if few
        else []
    )


def summary(of: Sequence[Cell], compared: Sequence[Paired]) -> Table:
    """Return each cell's metrics, mean ± standard deviation, with stars against its reference; in percent."""
    marks = {(row.metric, row.first): stars(row.p_adjusted, row.found.n) for row in compared if row.reference}
    defined = [name for name in METRICS if any(cell.values(name) for cell in of)]
    rows = []
    for cell in of:
        diverged = f" + {len(cell.diverged)} diverged" if cell.diverged else ""
        row = [Entry(cell.name), Entry(f"{len(cell.done)}{diverged}", len(cell.done))]
        for name in defined:
            values = list(cell.values(name).values())
            if not values:
                reasons = {metric(name, r).reason or "" for r in cell.results}
                row.append(Entry("–", None, "; ".join(sorted(reasons))))
                continue
            shown = _percent(values)
            row.append(Entry(f"{shown.text}{marks.get((name, cell.name), '')}", shown.sort))
        rows.append(tuple(row))
    return Table("summary", "Results", ("strategy", "n", *defined), tuple(rows), _note(of, compared))


def _note(of: Sequence[Cell], compared: Sequence[Paired]) -> str:
    note = "Percent, mean ± standard deviation over seeds."
    note += " Means are over finished runs." * any(cell.diverged for cell in of)
    absent: dict[str, list[str]] = {}
    for name in METRICS:
        if not any(cell.values(name) for cell in of):
            runs = [r for cell in of for r in cell.done] or [r for cell in of for r in cell.results]
            reasons = sorted({metric(name, r).reason or "" for r in runs})
            absent.setdefault("; ".join(reasons), []).append(name)
    note += "".join(f" No {', '.join(those)}: {why}." for why, those in absent.items())
    note += "".join(f" {cell.name}{kept}." for cell in of if (kept := memory(cell)))
    held = [row for row in compared if row.reference]
    if held:
        note += f" Against {of[0].name.partition(',')[0]} with the same other settings, where there is one. "
        note += about_tests(held)
    return note


def intervals(of: Sequence[Cell]) -> Table:
    """Return the confidence intervals of each cell's mean in each metric, in percent."""
    rows = []
    for cell in of:
        for name in METRICS:
            values = [100 * value for value in cell.values(name).values()]
            if len(values) > 1:
                mean, sd = mean_sd(values)
                entries = (Entry(f"{mean:.2f}", mean), Entry(f"{sd:.2f}", sd), ends(t_interval(values)))
                count = Entry(str(len(values)), len(values))
                rows.append((Entry(cell.name), Entry(name), *entries, ends(bootstrap_interval(values)), count))
    header = ("strategy", "metric", "mean", "sd", "95 % CI (t)", "95 % CI (bootstrap)", "n")
    return Table("intervals", "Intervals", header, tuple(rows), "Percent. The bootstrap needs five seeds.")


def of_the_way(found: Sequence[Share]) -> Table:
    """Return how far methods get from plain to joint training, in percent of the way."""
    rows = tuple(
        (
            Entry(share.name),
            Entry(share.upper),
            Entry("–", None, share.reason) if share.value is None else Entry(f"{100 * share.value:.2f}", share.value),
            ends(points(share.interval)) if share.interval else Entry("–"),
            Entry(str(share.n), share.n),
        )
        for share in found
    )
    reasons = sorted({share.reason for share in found if share.reason})
    note = (
        "Mean gain in ACC (mean accuracy at the end) over plain training, divided by the gain of joint training on the "
        "same seeds; interval of the ratio of paired means (Fieller). Joint training is a bound only once it has "
        "converged: joint:steps=epochs trains it in whole epochs of all tasks."
    )
    note += "".join(f" No value: {reason}." for reason in reasons)
    header = ("strategy", "way to", "% of the way", "95 % CI", "n")
    return Table("of-the-way", "From plain to joint training", header, rows, note, texts=2)


def points(interval: Interval | None) -> Interval | None:
    """Return an interval of shares in percent."""
    return None if interval is None else (100 * interval[0], 100 * interval[1])


def ends(interval: Interval | None) -> Entry:
    """Return an interval as an entry, which sorts by its lower end."""
    return Entry("–") if interval is None else Entry(f"{interval[0]:.2f} to {interval[1]:.2f}", interval[0])
