"""Contrasts: tables of what differs between strategies, seed by seed, and of what families keep at equal plasticity."""

from collections.abc import Sequence

from cl_nvrm.analysis.comparisons import Paired
from cl_nvrm.analysis.equal_plasticity import AtEqualPlasticity
from cl_nvrm.analysis.permutation import EXACT_UP_TO
from cl_nvrm.analysis.stats import equivalence_p, stars
from cl_nvrm.report.tables import STARS, Entry, Table, about_tests, ends, points


def differences_in_short(compared: Sequence[Paired], metrics: Sequence[str], margin: float) -> Table:
    """Return the paired differences in points: interval, p adjusted, p of lying within the margin, and seeds needed.

    Of some metrics and all primary contrasts; p is that of all that is compared.
    """
    rows = tuple(
        (
            _contrast(row),
            Entry(row.metric),
            _difference(row, 1),
            Entry(f"{100 * row.found.t[0]:.1f} to {100 * row.found.t[1]:.1f}", row.found.t[0]),
            Entry(str(row.found.n), row.found.n),
            _p(row.p_adjusted),
            _p(equivalence_p(list(row.found.values.values()), margin / 100)),
            _seeds(row),
        )
        for row in compared
        if row.primary or row.metric in metrics
    )
    header = ("", "metric", "difference", "95 % CI", "n", "p", f"p (±{margin:g})", "seeds needed")
    return Table("differences", "differences on the same seeds, points", header, rows, about_tests(compared), texts=2)


def differences(compared: Sequence[Paired], margin: float) -> Table:
    """Return the paired differences, in points, with what a reader needs to judge them."""
    rows = []
    for row in compared:
        found = row.found
        rows.append(
            (
                _contrast(row),
                Entry(row.metric),
                _difference(row, 2),
                ends(points(found.t)),
                ends(points(found.bootstrap)),
                _p(row.p_adjusted),
                _p(equivalence_p(list(found.values.values()), margin / 100)),
                Entry("–" if found.effect is None else f"{found.effect:.2f}", found.effect),
                _seeds(row),
                Entry(str(found.n), found.n),
            )
        )
    header = (
        "difference", "metric", "points", "95 % CI (t)", "95 % CI (bootstrap)", "p", f"p (within ±{margin:g})",
        "effect size", "seeds needed", "n",
    )  # fmt: skip
    note = (
        f"{about_tests(compared)} The test is exact up to {EXACT_UP_TO} seeds (its smallest p is 2^(1-n)), "
        f"with 9,999 random signs beyond. p (within ±{margin:g}): two one-sided t tests that the mean difference is "
        "smaller than that many points, not adjusted. Effect size: mean over standard deviation of the differences, "
        "Hedges' correction. Seeds needed: for one such comparison to have p < 0.05 with power 0.8, if the effect is "
        "at the lower end of its 60 % interval (safeguard power); – where that end is 0, or differences do not vary. "
        "No bootstrap interval: fewer than five seeds, or too many equal values. Intervals are for one comparison and "
        "for differences that are about normal; of skewed ones, or where few runs collapse, they cover less "
        "(reports/studies/calibration)."
    )
    return Table("differences", "Differences", header, tuple(rows), note)


def equal_plasticity(compared: Sequence[AtEqualPlasticity], margin: float) -> Table:
    """Return what families keep at equal plasticity, in points: with tests where settings were chosen on other runs."""
    return _with_tests(compared, margin) if any(row.found for row in compared) else _without_tests(compared)


_AT_EQUAL = (
    "Accuracy kept at the end on all tasks but the last, at that accuracy on tasks just learned; a family's "
    "settings include those of the families that it contains, and between two settings the value is that of running "
    "one of them at random."
)


def _with_tests(compared: Sequence[AtEqualPlasticity], margin: float) -> Table:
    rows = tuple(
        (
            Entry(f"{'primary: ' * row.primary}{row.first} - {row.second}"),
            _level(row),
            Entry(f"{100 * found.mean:+.2f}{'' if row.same else stars(row.p_adjusted, found.n)}", found.mean),
            ends(points(found.t)),
            Entry("same settings") if row.same else _p(row.p_adjusted),
            _p(equivalence_p(list(found.values.values()), margin / 100)),
            Entry(str(found.n), found.n),
        )
        for row in compared
        if (found := row.found) is not None and row.p_adjusted is not None
    )
    header = (
        "difference", "learning accuracy", "points kept", "95 % CI (t)", "p", f"p (within ±{margin:g})", "n",
    )  # fmt: skip
    named = sum(row.primary for row in compared)
    adjusted = "adjusted for one another" if named > 1 else "not adjusted"
    primary = f"Primary contrasts were named before the runs and are {adjusted}. " * bool(named)
    diverged = "Runs that diverged keep nothing. " * any(row.diverged for row in compared)
    note = (
        f"{_AT_EQUAL} Settings were chosen on other runs, and with them the line along which each seed is taken to "
        f"that plasticity. {STARS}: sign-flip test. {primary}p of the remaining rows is adjusted for one another "
        f"(max-T by the same flips). p (within ±{margin:g}): two one-sided t tests, not adjusted. {diverged}"
    )
    return Table("equal-plasticity", "At equal plasticity", header, rows, note.strip())


def _without_tests(compared: Sequence[AtEqualPlasticity]) -> Table:
    rows = tuple(
        (
            Entry(f"{row.first} - {row.second}"),
            _level(row),
            Entry("same settings" if row.same else f"{100 * row.difference:+.2f}", row.difference),
        )
        for row in compared
    )
    note = (
        f"{_AT_EQUAL} Settings were chosen on these very runs, which flatters whoever has more of them, so nothing is "
        "tested here: --frontier FOLDER of the main command runs the chosen settings on fresh seeds, and tests these."
    )
    header = ("difference", "learning accuracy", "points kept")
    return Table("equal-plasticity", "At equal plasticity, untested", header, rows, note)


def _level(row: AtEqualPlasticity) -> Entry:
    return Entry("mean of levels", 2.0) if row.level is None else Entry(f"{100 * row.level:.2f}", row.level)


def _contrast(row: Paired) -> Entry:
    return Entry(f"{'primary: ' * row.primary}{row.first} - {row.second}")


def _difference(row: Paired, digits: int) -> Entry:
    return Entry(f"{100 * row.found.mean:+.{digits}f}{stars(row.p_adjusted, row.found.n)}", row.found.mean)


def _p(value: float) -> Entry:
    return Entry(f"{value:.3g}" if value >= 1e-4 else "<1e-4", value)


def _seeds(row: Paired) -> Entry:
    needed = row.found.seeds_needed
    return Entry("–") if needed is None else Entry(f"{needed:,}", needed)
