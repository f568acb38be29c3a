"""Tables: what is said of cells, as plain values that every format renders."""

from collections.abc import Sequence
from dataclasses import dataclass

from cl_nvrm.analysis.bounds import Share
from cl_nvrm.analysis.comparisons import Cell, Paired
from cl_nvrm.analysis.frontier import AtEqualPlasticity
from cl_nvrm.analysis.metrics import METRICS, base_task, mean_accuracy, metric
from cl_nvrm.analysis.stats import EXACT_UP_TO, FEWEST, Interval, bootstrap_interval, mean_sd, stars, t_interval


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


def differences_in_short(compared: Sequence[Paired]) -> Table:
    """Return the paired differences in points, with intervals, adjusted p, effect sizes and the seeds they need."""
    rows = tuple(
        (
            Entry(f"{row.first} - {row.second}"),
            Entry(row.metric),
            Entry(f"{100 * row.found.mean:+.1f}{stars(row.p_holm, row.found.n)}", row.found.mean),
            Entry(f"{100 * row.found.t[0]:.1f} to {100 * row.found.t[1]:.1f}", row.found.t[0]),
            Entry(str(row.found.n), row.found.n),
            Entry(f"{row.p_holm:.3g}", row.p_holm),
            Entry("" if row.found.effect is None else f"{row.found.effect:.2f}", row.found.effect),
            Entry("") if row.found.effect is None else _seeds(row.found.effect, row.found.seeds_needed),
        )
        for row in compared
    )
    notes = []
    if any(row.found.n >= FEWEST for row in compared):
        notes.append("* p < 0.05, ** p < 0.01, *** p < 0.001: sign-flip test, adjusted for all rows of a metric.")
    least = min(row.found.n for row in compared)
    if least < FEWEST:
        notes.append(f"With fewer than {FEWEST} seeds nothing is marked as significant; some here have {least}.")
    header = ("", "metric", "difference", "95 % CI", "n", "p (Holm)", "effect", "seeds needed")
    return Table("differences", "differences on the same seeds, points", header, rows, " ".join(notes), texts=2)


def summary(of: Sequence[Cell], compared: Sequence[Paired]) -> Table:
    """Return each cell's metrics, mean ± standard deviation, with stars against its reference; in percent."""
    marks = {(row.metric, row.first): stars(row.p_holm, row.found.n) for row in compared if row.reference}
    defined = [name for name in METRICS if any(cell.values(name) for cell in of)]
    rows = []
    for cell in of:
        row = [Entry(cell.name), Entry(str(len(cell.done)), len(cell.done))]
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
    absent: dict[str, list[str]] = {}
    for name in METRICS:
        if not any(cell.values(name) for cell in of):
            reasons = sorted({metric(name, r).reason or "" for cell in of for r in cell.results})
            absent.setdefault("; ".join(reasons), []).append(name)
    note += "".join(f" No {', '.join(those)}: {why}." for why, those in absent.items())
    note += "".join(f" {cell.name}{kept}." for cell in of if (kept := memory(cell)))
    held = [row for row in compared if row.reference]
    if any(row.found.n >= FEWEST for row in held):
        note += (
            f" Against {of[0].name.partition(',')[0]} with the same other settings, where there is one, on the same "
            "seeds: * p < 0.05, ** p < 0.01, *** p < 0.001 (sign-flip test, adjusted after Holm for all comparisons "
            "made in a metric)."
        )
        out_of_reach = [row for row in held if row.family * 2.0 ** (1 - min(row.found.n, EXACT_UP_TO)) >= 0.05]
        if out_of_reach:
            worst = out_of_reach[0]
            note += (
                f" With {worst.found.n} seeds and {worst.family} comparisons even the clearest difference has an "
                f"adjusted p of {min(1, worst.family * 2.0 ** (1 - worst.found.n)):.2f}: no star can appear."
            )
    few = {row.found.n for row in held if row.found.n < FEWEST}
    if few:
        note += f" With fewer than {FEWEST} seeds nothing is marked as significant; some here have {min(few)}."
    return note


def intervals(of: Sequence[Cell]) -> Table:
    """Return the confidence intervals of each cell's mean in each metric, in percent."""
    rows = []
    for cell in of:
        for name in METRICS:
            values = [100 * value for value in cell.values(name).values()]
            if len(values) > 1:
                mean, sd = mean_sd(values)
                entries = (Entry(f"{mean:.2f}", mean), Entry(f"{sd:.2f}", sd), _ends(t_interval(values)))
                count = Entry(str(len(values)), len(values))
                rows.append((Entry(cell.name), Entry(name), *entries, _ends(bootstrap_interval(values)), count))
    header = ("strategy", "metric", "mean", "sd", "95 % CI (t)", "95 % CI (bootstrap)", "n")
    return Table("intervals", "Intervals", header, tuple(rows), "Percent. The bootstrap needs five seeds.")


def differences(compared: Sequence[Paired]) -> Table:
    """Return the paired differences, in points, with what a reader needs to judge them."""
    rows = []
    for row in compared:
        found = row.found
        rows.append(
            (
                Entry(f"{row.first} - {row.second}"),
                Entry(row.metric),
                Entry(f"{100 * found.mean:+.2f}{stars(row.p_holm, found.n)}", found.mean),
                _ends(_points(found.t)),
                _ends(_points(found.bootstrap)),
                Entry(f"{row.p_holm:.3g}", row.p_holm),
                Entry("–" if found.effect is None else f"{found.effect:.2f}", found.effect),
                _seeds(found.effect, found.seeds_needed),
                Entry(str(found.n), found.n),
            )
        )
    header = (
        "difference", "metric", "points", "95 % CI (t)", "95 % CI (bootstrap)", "p (Holm)", "effect size",
        "seeds needed", "n",
    )  # fmt: skip
    note = (
        "Paired by seed. p: sign-flip test, exact up to 16 seeds (its smallest raw value with n seeds is 2^(1-n)), "
        "with 9,999 random signs beyond; adjusted after Holm for all rows of a metric. Effect size: mean over standard "
        "deviation of the differences, Hedges' correction. Seeds needed: for one such comparison, before Holm, to have "
        "p < 0.05 with power 0.8 (paired t test; at least the six the exact test needs). No bootstrap interval: fewer "
        "than five seeds, or too many equal values."
    )
    return Table("differences", "Differences", header, tuple(rows), note)


def equal_plasticity(compared: Sequence[AtEqualPlasticity]) -> Table:
    """Return what families keep at equal plasticity, in points."""
    rows = [
        (
            Entry(f"{row.first} - {row.second}"),
            Entry(f"{100 * row.level:.2f}", row.level),
            Entry(f"{100 * row.found.mean:+.2f}{stars(row.p_holm, row.found.n)}", row.found.mean),
            _ends(_points(row.found.t)),
            Entry(f"{row.p_holm:.3g}", row.p_holm),
            Entry(str(row.found.n), row.found.n),
        )
        for row in compared
    ]
    header = ("difference", "learning accuracy, at least", "points kept", "95 % CI (t)", "p (Holm)", "n")
    note = (
        "Accuracy kept at the end on all tasks but the last, where tasks just learned are known at least that well: at "
        "the highest such accuracy both methods reach, and in the middle of what both frontiers span. Each frontier is "
        "found without the seed it is then read off for; settings with a run that did not finish are left out; p is "
        "adjusted for all rows."
    )
    return Table("equal-plasticity", "At equal plasticity", header, tuple(rows), note)


def of_the_way(found: Sequence[Share]) -> Table:
    """Return how far methods get from plain to joint training, in percent of the way."""
    rows = tuple(
        (
            Entry(share.name),
            Entry(share.upper),
            Entry("–", None, share.reason) if share.value is None else Entry(f"{100 * share.value:.2f}", share.value),
            _ends(_points(share.interval)) if share.interval else Entry("–"),
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


def _points(ends: Interval | None) -> Interval | None:
    return None if ends is None else (100 * ends[0], 100 * ends[1])


def _ends(ends: Interval | None) -> Entry:
    return Entry("–") if ends is None else Entry(f"{ends[0]:.2f} to {ends[1]:.2f}", ends[0])


def _seeds(effect: float | None, needed: int | None) -> Entry:
    if effect is None:
        return Entry("–")
    return Entry("over 10,000", 10_001) if needed is None else Entry(str(needed), needed)
