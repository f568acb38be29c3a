import random
from dataclasses import replace
from itertools import product
from time import process_time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cl_nvrm.analysis.comparisons import Cell, Contrast, cells, comparisons, less_one_term, pairs
from cl_nvrm.analysis.equal_plasticity import on_same_runs
from cl_nvrm.analysis.frontier import between, families, front, levels, mean_point, mixture_at, near_front, with_parts
from cl_nvrm.errors import UserError
from cl_nvrm.report.tables import about_tests, summary
from cl_nvrm.spec import RunResult, RunSpec, grammar
from cl_nvrm.spec.cell_names import cell_names, setting

SPEC = RunSpec("naive", "toy", "synthetic", "", 0, 1, 32, "adam", 1e-3, 0.0)


def cell(strategy, lr, plasticity, kept, seeds=10, spread=0.0, seed=0):
    """A cell whose runs have a given mean learning accuracy and a given accuracy kept of the first of two tasks."""
    noise = np.random.default_rng(seed).normal(0, spread, size=(seeds, 2)) if spread else np.zeros((seeds, 2))
    spec = replace(SPEC, strategy=strategy, lr=lr)
    results = tuple(
        RunResult(replace(spec, seed=s), "done", ((plasticity + dx, 0.1), (kept + dy, plasticity + dx)))
        for s, (dx, dy) in enumerate(noise)
    )
    return Cell(f"{strategy} {lr}", spec, results)


LINE = [cell("naive", 1.0, 0.80, 0.90), cell("naive", 2.0, 0.90, 0.80), cell("naive", 3.0, 0.96, 0.50)]


def test_the_front_is_the_upper_convex_hull():
    beaten, below = cell("naive", 4.0, 0.85, 0.75), cell("naive", 6.0, 0.94, 0.55)  # the second by a mixture only
    assert [c.spec.lr for _, c in front([beaten, *LINE, below])] == [1.0, 2.0, 3.0]
    better = cell("naive", 5.0, 0.97, 0.95)
    assert [c.spec.lr for _, c in front([better, *LINE])] == [5.0]
    assert mean_point(LINE[0]) == (pytest.approx(0.8), pytest.approx(0.9)) and front([]) == []


@given(st.lists(st.tuples(st.integers(0, 20), st.integers(0, 20)), min_size=1, max_size=12))
def test_no_mixture_of_settings_lies_above_the_front(places):
    cells = [cell("naive", float(k), x / 20, y / 20, seeds=1) for k, (x, y) in enumerate(places)]
    line = front(cells)
    for level in np.linspace(0, 1, 11):
        above = [y for x, y in places if x / 20 >= level]
        mixed = [
            y0 + (20 * level - x0) / (x1 - x0) * (y1 - y0)
            for x0, y0 in places
            for x1, y1 in places
            if x0 < 20 * level <= x1
        ]
        best = max([*above, *mixed], default=None)
        if best is None:
            assert level > line[-1][0][0]
        else:
            xs, ys = zip(*(point for point, _ in line), strict=True)
            assert np.interp(level, xs, ys) == pytest.approx(best / 20, abs=1e-9)


def test_a_level_lies_between_two_settings():
    at = {level: mixture_at(LINE, level) for level in (0.7, 0.85, 0.95, 0.97)}
    assert at[0.7] == (LINE[0], LINE[0]) and at[0.97] is None  # more plasticity than asked for will do; out of reach
    assert at[0.85] == (LINE[0], LINE[1]) and at[0.95] == (LINE[1], LINE[2])
    near = [cell("naive", 4.0, 0.9001, 0.7999), *LINE]
    narrow = [cell("naive", float(k), x, y) for k, (x, y) in enumerate(((0.9, 0.5), (0.902, 0.45), (0.904, 0.2)))]
    assert [c.spec.lr for c in mixture_at(narrow, 0.901)] == [1.0, 1.0], "the first that reaches it, not the last"
    assert mixture_at(near, 0.90005) == (LINE[0], LINE[2]), "a line through two places that are one may go anywhere"
    assert mixture_at([cell("naive", 1.0, 0.9, 0.8), cell("naive", 2.0, 0.901, 0.7)], 0.9005)[0].spec.lr == 2.0
    assert between([(0.8, 0.9), (0.9, 0.8)], 0.85) == pytest.approx(0.85)


def test_a_family_has_the_settings_of_those_it_contains():
    every = [
        *LINE,
        cell("ewc:lambda=1", 1.0, 0.85, 0.95),
        cell("nvrm:variability=0.1", 1.0, 0.7, 0.7),
        cell("ewc:lambda=1+nvrm:variability=0.1", 1.0, 0.5, 0.5),
        cell("joint", 1.0, 0.9, 0.9),
    ]
    found = {name: {c.spec.strategy.split(":")[0] for c in of} for name, of in with_parts(families(every)).items()}
    assert found == {
        "naive": {"naive"},
        "ewc": {"naive", "ewc"},
        "nvrm": {"naive", "nvrm"},
        "ewc+nvrm": {"naive", "ewc", "nvrm"},
        "joint": {"joint"},
    }
    rows = {(row.first, row.second): row for row in on_same_runs(families(every), [0.85])}
    assert rows["nvrm", "naive"].same and rows["nvrm", "naive"].difference == 0, "noise of 0 is a setting, too"
    assert rows["ewc", "naive"].difference == pytest.approx(0.1) and not rows["ewc", "naive"].same
    assert rows["ewc+nvrm", "ewc"].same and rows["ewc", "naive"].found is None


def test_settings_near_a_frontier_are_worth_more_seeds():
    near, far = cell("naive", 4.0, 0.85, 0.84), cell("naive", 5.0, 0.85, 0.80)
    noisy = cell("nvrm:variability=0.1", 1.0, 0.85, 0.81)  # near its own frontier, not near that of plain training
    every = families([*LINE, near, far, noisy])
    assert [c.spec.lr for c in near_front(every, 0.02)] == [1.0, 2.0, 3.0, 4.0]
    assert len(near_front(every, 0.045)) == 5 and len(near_front(every, 0.05)) == 6


def test_levels_span_what_all_reach():
    low = cell("ewc:lambda=1", 1.0, 0.85, 0.95)
    assert levels(families([*LINE, low])) == pytest.approx([0.8, 0.832, 0.864, 0.896, 0.928])
    assert levels(families(LINE), 2) == pytest.approx([0.8, 0.88])
    assert levels({}) == [] and levels(families([low])) == [0.85]


def test_a_setting_that_fails_on_a_seed_is_not_on_a_frontier_and_other_recipes_are_other_families():
    broken = cell("naive", 4.0, 0.99, 0.99)
    broken = replace(broken, results=(*broken.results[:-1], replace(broken.results[-1], status="diverged")))
    longer = cell("naive", 5.0, 0.97, 0.95)
    spec = replace(longer.spec, epochs=10)
    longer = replace(
        longer, spec=spec, results=tuple(replace(r, spec=replace(r.spec, epochs=10)) for r in longer.results)
    )
    found = families([*LINE, broken, longer])
    assert [len(of) for of in found.values()] == [3, 1] and len(found) == 2
    assert on_same_runs(found, levels(found)) == []


def test_a_cell_is_compared_with_the_first_and_with_itself_less_one_term():
    def one(strategy, lr=1e-3, chosen=""):
        spec = replace(SPEC, strategy=strategy, lr=lr, chosen=chosen)
        return [RunResult(replace(spec, seed=s), "done", ((0.9, 0.1), (0.5 + 0.01 * s, 0.9))) for s in range(6)]

    texts = ("naive", "nvrm:variability=0.1", "ewc:lambda=1", "ewc:lambda=1+nvrm:variability=0.1", "ewc:lambda=2")
    results = [r for text in texts for r in one(text)] + one("ewc:lambda=1", lr=1e-4)
    found = cells(results, cell_names([r.spec for r in results]))
    named = {(a.spec.strategy, b.spec.strategy) for a, b in pairs(found)}
    both = "ewc:lambda=1+nvrm:variability=0.1"
    assert {pair for pair in named if pair[0] == both} == {(both, text) for text in texts[:3]}
    rows = [row for row in comparisons(found) if row.metric == "ACC"]
    assert len(rows) == len(pairs(found)) and all(row.found.n == 6 for row in rows)

    tuned = one("ewc:lambda=7", lr=3e-4, chosen="a") + one("ewc:lambda=3+nvrm:variability=0.2", lr=1e-4, chosen="b")
    first, second = pairs(cells(tuned, cell_names([r.spec for r in tuned])))[0]
    assert "nvrm" in first.spec.strategy and "nvrm" not in second.spec.strategy


def test_a_thousand_settings_are_paired_as_each_with_each_would_be_and_at_once():
    def slowly(of):
        first = {cell.spec: replace(cell.spec, strategy=of[0].spec.strategy) for cell in of}
        known = {cell.spec for cell in of}
        chosen = [(c.spec, first[c.spec] if first[c.spec] in known - {c.spec} else of[0].spec) for c in of[1:]]
        for whole, part in product(of, of):
            plain = whole.spec.chosen == part.spec.chosen == ""
            texts = [s.spec.strategy if plain else grammar.family(s.spec.strategy) for s in (whole, part)]
            both = [replace(s.spec, strategy="", lr=s.spec.lr if plain else 0, chosen="") for s in (whole, part)]
            alike = bool(whole.spec.chosen) == bool(part.spec.chosen) and both[0] == both[1]
            if alike and less_one_term(*texts) and (whole.spec, part.spec) not in chosen:
                chosen.append((whole.spec, part.spec))
        return chosen

    parts = [["", "ewc:lambda=1", "ewc:lambda=2"], ["", "nvrm:variability=0.1"], ["", "si:c=1"]]
    texts = ["+".join(filter(None, chosen)) or "naive" for chosen in product(*parts)]
    specs = [replace(SPEC, strategy=s, lr=lr, chosen=c) for c in ("", "a", "b") for lr in (1, 2) for s in texts]
    few = [Cell(str(number), spec, ()) for number, spec in enumerate(random.Random(0).sample(specs, len(specs)))]
    assert [(a.spec, b.spec) for a, b in pairs(few)] == slowly(few)

    many = [Cell(f"{lr} {s}", replace(SPEC, strategy=s, lr=lr), ()) for lr in range(100) for s in texts]
    start = process_time()
    assert len(pairs(many)) > len(many) > 1000
    assert process_time() - start < 3  # each with each took minutes


def two(diverged=(), gain=0.05, seeds=10):
    """Plain training and a method that keeps more on every seed, but for those on which it diverges."""
    generator = np.random.default_rng(0)
    results = []
    for strategy, more in (("naive", 0.0), ("nvrm:variability=0.1", gain)):
        for s in range(seeds):
            spec = replace(SPEC, strategy=strategy, seed=s)
            rows = ((0.9, 0.1), (0.5 + more + 0.01 * generator.normal(), 0.9))
            failed = more and s in diverged
            results.append(RunResult(spec, "diverged", rows[:1]) if failed else RunResult(spec, "done", rows))
    return cells(results, cell_names([r.spec for r in results]))


def test_runs_that_diverge_count_as_the_worst_and_earn_no_stars():
    praised = {row.metric: row for row in comparisons(two())}
    assert praised["ACC"].p_adjusted < 0.05 and praised["ACC"].found.mean == pytest.approx(0.025, abs=0.01)
    rows = {row.metric: row for row in comparisons(two(diverged=(2, 5, 8)))}
    assert rows["ACC"].diverged == (3, 0) and rows["ACC"].found.n == 10
    assert rows["ACC"].found.values[2] < -0.68 and rows["ACC"].found.mean < 0 and rows["ACC"].p_adjusted > 0.05
    assert rows["BWT"].found.values[2] < -0.5 and rows["forgetting"].found.values[2] > 0.5, "each by its own bound"
    assert "min-ACC" not in rows, "what no run has is not made up"
    text = about_tests(list(rows.values()))
    assert "3 of nvrm:variability=0.1 diverged, and count as the worst value" in text
    summed = summary(two(diverged=(2, 5, 8)), list(rows.values()))
    assert [row[1].text for row in summed.rows] == ["10", "7 + 3 diverged"]


def test_a_method_that_always_diverges_is_compared_too():
    (acc,) = [row for row in comparisons(two(diverged=range(10))) if row.metric == "ACC"]
    assert acc.found.n == 10 and acc.found.mean == pytest.approx(-0.7, abs=0.01) and acc.p_adjusted < 0.05


def test_primary_contrasts_stand_apart_from_all_others():
    shown = two()
    whole = comparisons(shown)
    assert {row.family for row in whole} == {len(whole)} and len(whole) > 4
    rows = comparisons(shown, [Contrast("nvrm", "naive", "ACC")])
    assert rows[0].primary and rows[0].family == 1 and rows[0].p_adjusted == rows[0].found.p == 2 / 2**10
    assert sum(row.metric == "ACC" for row in rows) == 1 and {row.family for row in rows[1:]} == {len(whole) - 1}
    assert "named before the runs, not adjusted" in about_tests(rows)
    assert comparisons(shown, [Contrast("nvrm", "ewc", "ACC")]) == whole, "of another section"
    with pytest.raises(UserError, match="have no memorised"):
        comparisons(shown, [Contrast("nvrm", "naive", "memorised")])


def test_less_one_term_by_name_and_value():
    assert less_one_term("ewc+nvrm", "ewc") and less_one_term("nvrm", "naive")
    assert not less_one_term("ewc+nvrm", "naive") and not less_one_term("ewc:lambda=1+nvrm", "ewc:lambda=2")
    assert not less_one_term("ewc", "ewc")


def test_labels_tell_cells_apart_by_what_differs_and_nothing_else():
    from cl_nvrm.spec import grammar

    ewc = grammar.canonical(grammar.parse_sum("ewc:lambda=30"))
    plain, other = replace(SPEC, strategy=ewc), replace(SPEC, strategy=ewc, lr=1e-4)
    assert list(cell_names([plain, replace(plain, seed=4)]).values()) == ["ewc:lambda=30"]
    assert list(cell_names([plain, other]).values()) == ["ewc:lambda=30, lr 0.001", "ewc:lambda=30, lr 0.0001"]
    tuned = replace(plain, chosen="by a search")
    assert list(cell_names([plain, tuned]).values()) == ["ewc:lambda=30, not tuned", "ewc:lambda=30, tuned"]
    unknown = replace(SPEC, strategy="gone:x=1")
    assert cell_names([unknown]) == {unknown: "gone:x=1"}


def test_benchmarks_that_differ_are_called_by_what_they_differ_in(toy_spec):
    def on(benchmark):
        return toy_spec(benchmark=benchmark)

    noisy = "random-labels:p={},model={}"
    networks = [on(noisy.format(1, "mlp(width=512)")), on(noisy.format(1, "ioc-mlp(convex=false)"))]
    assert list(cell_names(networks).values()) == ["naive, model=mlp(width=512)", "naive, model=ioc-mlp(convex=false)"]
    assert setting(*networks) == "random-labels on synthetic"
    shares = [on(noisy.format(p, "mlp")) for p in (0, 0.5)]
    assert list(cell_names(shares).values()) == ["naive, p=0", "naive, p=0.5"]
    other = [on("toy"), on("toy:tasks=2")]
    assert list(cell_names([shares[1], other[1]]).values()) == [
        "naive, random-labels:p=0.5,model=mlp(width=1024,depth=2)",
        "naive, toy:tasks=2",
    ]
    assert setting(shares[1], other[1]).startswith("random-labels"), "benchmarks of two names"
