"""Tune: choose strengths and the learning rate on held-out training images, the same number of trials a strategy.

Every trial is an ordinary run on the first tasks of the benchmark with its parameter ``holdout``, so no test image is
ever looked at, and with seeds that no reported run has. Optuna proposes (Bergstra et al., "Algorithms for
hyper-parameter optimization", NeurIPS 2011: TPE); its study is a journal of JSON lines beside the runs, and a search
that was stopped goes on from there. The first trial is what would have been run untuned.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, fields, replace
from itertools import accumulate
from pathlib import Path
from typing import Any

from cl_nvrm.analysis.metrics import metric
from cl_nvrm.errors import UserError, counted
from cl_nvrm.spec import RunResult, RunSpec, catalog, derived_seed, grammar, text_digest
from cl_nvrm.sweep.claim import claim

LR_RANGE = (100, 10)  # the learning rate of the first trial, divided and multiplied by these
FIRST_SEED = 1_000_000
CAME_TOGETHER = ("schedule", "precision", "channels_last", "compiled")
TRIALS_A_VALUE = 10
EDGE = 1.1  # this near to an end of the range, as a ratio
AT_ONCE = 4  # proposals made before any of their results is known; fixed, so that the number of workers changes nothing
Range = tuple[float, float]
Run = Callable[[list[RunSpec]], list[RunResult]]


@dataclass(frozen=True)
class Budget:
    """What each search gets: ``trials`` settings on the first ``tasks`` tasks, ``holdout`` images, ``seeds`` runs."""

    trials: int
    tasks: int
    holdout: int
    seeds: int = 1


class Search:
    """The search for one spec's values, which are its first trial.

    Searched are the learning rate and what the strategy's files name in SEARCH, on logarithmic scales. Of several
    searches for the same, all but the first start at random. ``on`` is another data set to search on, with its
    fingerprint.
    """

    def __init__(
        self, spec: RunSpec, budget: Budget, folder: Path, number: int = 0, on: tuple[str, str] | None = None
    ) -> None:
        import optuna
        from optuna.storages import JournalStorage
        from optuna.storages.journal import JournalFileBackend

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self.spec, self.budget, self.number = spec, budget, number
        self.ranges = ranges(spec)
        held_out = replace(
            spec,
            benchmark=_with_holdout(spec.benchmark, budget.holdout),
            first_tasks=budget.tasks,
            eval_every=0,
            seed=FIRST_SEED,
            chosen="",
        )
        if on:
            held_out = replace(held_out, dataset=on[0], dataset_sha256=on[1])
        again = f", {number}" if number else ""
        key = f"({_search_text(held_out)}, {sorted(self.ranges.items())!r}, {budget.seeds!r}{again})"
        self.held_out = held_out
        self.name = text_digest(key)
        first = values(spec, self.ranges)
        for name, value in first.items():
            if not value > 0:
                raise UserError(f"--tune searches {name} on a logarithmic scale; give it a start above 0, or none")
        journal = folder / f"{self.name}.log"
        self.claim = folder / f"{self.name}.claim"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with claim(self.claim, wait=True):
                storage = JournalStorage(JournalFileBackend(str(journal)))
                if self.name in optuna.get_all_study_names(storage):  # creating it again would write to its journal
                    self.study = optuna.load_study(storage=storage, study_name=self.name)
                else:
                    self.study = optuna.create_study(storage=storage, study_name=self.name, direction="maximize")
                if not self.study.trials and not number:
                    self.study.enqueue_trial(first)
        except (OSError, ValueError, KeyError) as problem:
            reason = f"{type(problem).__name__}: {problem}".replace("\n", " ")
            raise UserError(
                f"Cannot use the tuning journal {journal} ({reason}); move it away to start anew"
            ) from problem

    def ask(self) -> list[Any]:
        """Return trials to run: those a stopped search left open, or else up to ``AT_ONCE`` new ones."""
        with claim(self.claim, wait=True):
            return self._open_or_new_trials()

    def _open_or_new_trials(self) -> list[Any]:
        import optuna
        from optuna.trial import TrialState

        states = [trial.state for trial in self.study.trials]
        left = [
            optuna.trial.Trial(self.study, self.study.trials[n]._trial_id)
            for n, s in enumerate(states)
            if s == TrialState.RUNNING
        ]
        if not left:
            begun = sum(state != TrialState.WAITING for state in states)
            for number in range(begun, min(self.budget.trials, begun + AT_ONCE)):
                seed = derived_seed(self.spec.seed, "tune", self.name, number) % 2**32
                self.study.sampler = optuna.samplers.TPESampler(seed=seed, n_startup_trials=6, constant_liar=True)
                left.append(self.study.ask())
        for trial in left:
            for key, (low, high) in self.ranges.items():
                trial.suggest_float(key, low, high, log=True)
        return left

    def specs(self, trial: Any) -> list[RunSpec]:
        """Return the runs of a trial, one a seed."""
        chosen = with_values(self.held_out, {key: _round(value) for key, value in trial.params.items()})
        return [replace(chosen, seed=FIRST_SEED + seed) for seed in range(self.budget.seeds)]

    def tell(self, trial: Any, results: Sequence[RunResult]) -> None:
        """Hear what a trial came to; a run that diverged counts as no accuracy, one that failed ends the search."""
        failed = next((r for r in results if r.status == "failed"), None)
        if failed is not None:
            raise UserError(f"tuning '{self.spec.strategy}': a trial failed ({failed.error})")
        value = sum(metric("ACC", r).value or 0.0 for r in results) / len(results)
        with claim(self.claim, wait=True):
            self.study.tell(trial, value, skip_if_finished=True)  # another command may have been at it, too

    @property
    def best(self) -> Any:
        """The best trial within the budget, the first of equals."""
        return max(self._told(), key=lambda trial: (trial.value, -trial.number))

    def best_so_far(self) -> list[float]:
        """Return the best accuracy on held-out images after each trial."""
        return list(accumulate((trial.value for trial in self._told()), max))

    def _told(self) -> list[Any]:
        trials = self.study.trials[: self.budget.trials]  # an earlier search may have more
        return [trial for trial in trials if trial.value is not None]

    def chosen(self, seed: int, others: Sequence["Search"] = ()) -> RunSpec:
        """Return the spec with the best values, and how they were chosen; ``others`` are searches for the same."""
        budget, found = self.budget, self.best
        best = {key: _round(value) for key, value in found.params.items()}
        on = "" if self.held_out.dataset == self.spec.dataset else f"{self.held_out.dataset}, "
        how = (
            f"{' and '.join(best)} by {len(self._told())} trials of TPE on {on}{budget.holdout} held-out training "
            f"images, first {budget.tasks} tasks, {budget.seeds} seed{'s' * (budget.seeds > 1)} from {FIRST_SEED}: "
            f"best ACC {found.value:.4f}"
        )
        if others:
            least = min(search.best.value for search in others)
            how += f", the worst of {len(others)} searches {least:.4f}"
        return replace(with_values(self.spec, best), seed=seed, chosen=how)

    def doubts(self) -> list[str]:
        """Return why what was found may not be the best there is: a small budget, an edge, or the start itself."""
        found = []
        if self.budget.trials < (enough := TRIALS_A_VALUE * len(self.ranges)):
            found.append(
                f"{self.budget.trials} trials are few for {counted(len(self.ranges), 'value')}, {enough} would do"
            )
        for key, (low, high) in self.ranges.items():
            value = self.best.params[key]
            if min(value / low, high / value) < EDGE:
                found.append(f"{key} {_round(value):g} lies at the edge of what is searched, {low:g} to {high:g}")
        if self.number == 0 and self.best.number == 0 and self.budget.trials > 1:
            found.append("no trial was better than the start")
        return found


def best_of(searches: Sequence[Search]) -> Search:
    """Return the search that found most, the first of equals."""
    return max(searches, key=lambda search: (search.best.value, -search.number))


def tune(searches: Sequence[Search], run: Run) -> None:
    """Spend every search's budget, all side by side; ``run`` turns specs into results."""
    while True:
        asked = [(search, trial) for search in searches for trial in search.ask()]
        if not asked:
            return
        runs = {spec.id: spec for search, trial in asked for spec in search.specs(trial)}
        results = {result.id: result for result in run(list(runs.values()))}
        for search, trial in asked:
            search.tell(trial, [results[spec.id] for spec in search.specs(trial)])


def ranges(spec: RunSpec) -> dict[str, Range]:
    """Return what can be searched for a spec, by ``lr`` or ``strategy:parameter``, with its range."""
    found: dict[str, Range] = {"lr": (spec.lr / LR_RANGE[0], spec.lr * LR_RANGE[1])}
    for term in grammar.parse_sum(spec.strategy):
        for key, limits in catalog.search(catalog.maker("strategies", term.name)).items():
            found[f"{term.name}:{key}"] = limits
    return found


def values(spec: RunSpec, keys: Iterable[str]) -> dict[str, float]:
    """Return the present values of some of a spec's names."""
    settings = {f"{t.name}:{key}": value for t in grammar.parse_sum(spec.strategy) for key, value in t.settings.items()}
    return {key: float({**settings, "lr": spec.lr}[key]) for key in keys}


def with_values(spec: RunSpec, new: dict[str, float]) -> RunSpec:
    """Return the spec with other values."""
    terms = tuple(
        replace(t, settings={key: new.get(f"{t.name}:{key}", value) for key, value in t.settings.items()})
        for t in grammar.parse_sum(spec.strategy)
    )
    return replace(spec, strategy=grammar.canonical(terms), lr=new.get("lr", spec.lr))


def _with_holdout(benchmark: str, holdout: int) -> str:
    term = grammar.parse("benchmarks", benchmark)
    if "holdout" not in term.settings:
        raise UserError(f"--tune: the benchmark '{term.name}' has no parameter 'holdout'")
    return str(replace(term, settings={**term.settings, "holdout": holdout}))


def _search_text(spec: RunSpec) -> str:
    """The text of a spec that names its search; fields that came later are in it where they say something.

    Those that came together are in it together, for so the searches there are have been named.
    """
    usual = {field.name: field.default for field in fields(RunSpec)}
    first = list(usual)[: list(usual).index("chosen") + 1]

    def counts(name: str) -> bool:
        group = CAME_TOGETHER if name in CAME_TOGETHER else (name,)
        return name in first or any(getattr(spec, other) != usual[other] for other in group)

    return f"RunSpec({', '.join(f'{name}={getattr(spec, name)!r}' for name in usual if counts(name))})"


def _round(value: float) -> float:
    return float(f"{value:.3g}")
