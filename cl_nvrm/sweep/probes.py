"""Stored: what can be asked of a run's stored weights; answers are kept as JSON beside the runs."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from cl_nvrm.analysis.pac_bayes import of_model
from cl_nvrm.analysis.robustness import Draws, generalisation_gap, neural_variability, perturbed
from cl_nvrm.benchmark import Benchmark, TaskData
from cl_nvrm.errors import UserError, note
from cl_nvrm.spec import RunResult, canonical_json, text_digest
from cl_nvrm.sweep.contents import contents
from cl_nvrm.sweep.filters import Words, narrow
from cl_nvrm.sweep.store import Store
from cl_nvrm.training import weights
from cl_nvrm.training.build import build_benchmark, build_model
from cl_nvrm.training.evaluate import EVAL_BATCH
from cl_nvrm.training.replacing import replacing
from cl_nvrm.training.weights import fingerprint

SCHEMA = 1


@dataclass(frozen=True)
class Questions:
    """What to ask: accuracy and loss at ``scales``, and the variability and bound at scale ``b`` (0: not asked).

    ``draws``, ``noise``, ``relative`` and ``seed`` are those of ``robustness.perturbed``; ``weight_decay`` is that of
    the prior, 1 / σ².
    """

    scales: tuple[float, ...]
    draws: int = 10
    noise: str = "gaussian"
    relative: bool = False
    b: float = 0.0
    weight_decay: float = 1e-4
    seed: int = 0


@dataclass(frozen=True)
class Answers:
    """What came of it: ``curve`` on the test samples; the rest, on the training samples, by name."""

    run: str
    curve: tuple[Draws, ...]
    training: dict[str, Any]


class _Loader:
    """A task's samples as a loader that can be gone through again."""

    def __init__(self, data: TaskData) -> None:
        self.data = data

    def __iter__(self) -> Iterator[list[Tensor]]:
        return self.data.batches(EVAL_BATCH)


def open_model(store: Store, result: RunResult, data_dir: Path | None, device: str) -> tuple[Benchmark, nn.Module]:
    """Return a run's benchmark and its network with the final weights, for evaluation.

    UserError if these are not there or not its.
    """
    path = store.weights_path(result.id)
    if not path.is_file():
        raise UserError(f"There is no file {path}; train again with --keep-weights")
    benchmark, _ = build_benchmark(result.spec, data_dir, device)
    model = build_model(result.spec, benchmark, device)
    weights.load(path, model, result.id)
    if fingerprint(model) != result.provenance.get("weights_sha256"):
        raise UserError(f"{path} is of another training than the result; train again with --fresh --keep-weights")
    return benchmark, model.eval()


def open_run(store: Store, result: RunResult, data_dir: Path | None, device: str) -> tuple[Benchmark, nn.Module]:
    """Return ``open_model`` of a run of one task; UserError for one of several."""
    if len(result.accuracy) > 1:
        raise UserError(f"run {result.id} has {len(result.accuracy)} tasks; this is for benchmarks of one task")
    return open_model(store, result, data_dir, device)


def stored_answers(store: Store, result: RunResult, questions: Questions) -> Answers | None:
    """Return the answers for a run that are in the store, whether or not its weights still are; None if none are."""
    from pydantic import TypeAdapter  # heavy: not needed for --help

    try:
        text = _path(store, result, questions).read_text("utf-8")
        about = json.loads(text)
        answers = TypeAdapter(Answers).validate_json(text, strict=True)
    except (OSError, ValueError, RecursionError):
        return None  # not there, or damaged
    asked = json.loads(json.dumps(asdict(questions)))
    if (about.get("schema"), about.get("questions"), answers.run) != (SCHEMA, asked, result.id):
        return None
    if [draws.scale for draws in answers.curve] != list(questions.scales):
        return None
    return answers if all(0 <= a <= 1 for draws in answers.curve for a in draws.accuracies) else None


def ask(
    store: Store, result: RunResult, questions: Questions, data_dir: Path | None = None, device: str = "cpu"
) -> Answers:
    """Return the answers for a run, from the store if they are there."""
    answers = stored_answers(store, result, questions)
    if answers is not None:
        return answers
    answers = _compute(*open_run(store, result, data_dir, device), result.id, questions)
    path = _path(store, result, questions)
    told = {"schema": SCHEMA, "questions": asdict(questions), **asdict(answers)}
    try:
        with replacing(path) as new:
            new.write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")
    except OSError as problem:
        raise UserError(f"Cannot write {path} ({problem.strerror})") from problem
    return answers


def _path(store: Store, result: RunResult, questions: Questions) -> Path:
    about = {"weights": result.provenance.get("weights_sha256"), **asdict(questions)}
    return store.folder / "perturbed" / f"{result.id}-{text_digest(canonical_json(about), 8)}.json"


def _compute(benchmark: Benchmark, model: nn.Module, run: str, questions: Questions) -> Answers:
    test, train = _Loader(benchmark.test[0]), _Loader(benchmark.train[0])
    law: dict[str, Any] = {"draws": questions.draws, "seed": questions.seed}
    curve = perturbed(model, test, questions.scales, noise=questions.noise, relative=questions.relative, **law)
    about: dict[str, Any] = {"generalisation_gap": generalisation_gap(model, train, test)}
    if questions.b:
        found = neural_variability(model, train, questions.b, **law)
        limit = of_model(model, train, questions.b, questions.weight_decay, **law)
        about |= {
            "b": questions.b,
            "delta": found.delta,
            "delta_standard_error": found.standard_error,
            "expected_sharpness": found.sharpness.mean,
            "bound": {**asdict(limit), "total": limit.total, "vacuous": limit.vacuous, "sentence": limit.sentence},
        }
    return Answers(run, tuple(curve), about)


def runs_of(store: Store, wanted: Sequence[str], words: Words | None = None) -> list[RunResult]:
    """Return the finished runs whose weights are kept, or those of the ids given; UserError if there are none.

    ``words`` may narrow down which runs are meant.
    """
    runs = contents(store)
    for run in runs:
        if run.problem:
            note(f"{run.path} is left out: {run.problem}")
    meant = narrow(runs, words) if words else runs
    results = {run.id: run.result for run in meant if run.result and run.result.status == "done"}
    for run_id in wanted:
        if run_id not in results:
            raise UserError(f"There is no finished run {run_id} in {store.folder}")
    chosen = [results[run_id] for run_id in wanted] or [
        r for r in results.values() if store.weights_path(r.id).is_file() and len(r.accuracy) == 1
    ]
    if not chosen:
        among = words.told if words else ""
        raise UserError(f"No weights of runs{among} are kept in {store.folder}; train with --keep-weights")
    return chosen
