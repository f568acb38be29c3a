"""A stack of trials: each member becomes what it would have become alone."""

from dataclasses import replace

import pytest
import torch

import cl_nvrm
from cl_nvrm import data
from cl_nvrm.errors import Diverged, UserError
from cl_nvrm.sweep.store import Store
from cl_nvrm.sweep.sweep import Workers, sweep
from cl_nvrm.training import train
from cl_nvrm.training.build import build_benchmark
from cl_nvrm.training.record import LossRecord
from cl_nvrm.training.stack import run_stack, stackable, stacked
from cl_nvrm.training.train import run_one

STRATEGIES = ["naive", "nvrm", "ewc", "si", "ewc+nvrm", "ewc+nvrm+si", "ewc:mode=online+nvrm", "ewc:fisher=sampled"]
OPTIONS = ["nvrm:relative=true", "nvrm:penalty_at=clean+ewc", "nvrm:noise=laplace,scale=matched"]

# Always tried; the others are slow.
SAMPLE = [("ewc+nvrm+si", "toy:heads=true"), ("nvrm:penalty_at=clean+ewc", "toy"), ("naive", "toy")]


@pytest.mark.parametrize(
    ("strategy", "benchmark"),
    [
        pytest.param(strategy, benchmark, marks=() if (strategy, benchmark) in SAMPLE else pytest.mark.slow)
        for strategy in [*STRATEGIES, *OPTIONS]
        for benchmark in ("toy", "toy:heads=true")
    ],
)
def test_each_member_equals_its_trial_run_alone(toy_spec, strategy, benchmark):
    specs = [toy_spec(strategy, benchmark=benchmark, seed=seed) for seed in (0, 1, 5)]
    for together, spec in zip(run_stack(specs), specs, strict=True):
        alone = run_one(spec)
        assert together.spec == spec and together.status == "done"
        # Rounding differs between matrix products of different shapes; a sample on a border may change sides.
        torch.testing.assert_close(torch.tensor(together.losses), torch.tensor(alone.losses), rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(torch.tensor(together.accuracy), torch.tensor(alone.accuracy), rtol=0, atol=0.01)
        assert together.diagnostics.keys() == alone.diagnostics.keys()
        for name, tasks in alone.diagnostics.items():
            for one, many in zip(tasks, together.diagnostics[name], strict=True):
                assert many == pytest.approx(one, rel=1e-3, abs=1e-6)


@pytest.mark.parametrize("optimizer", ["adam", "sgd", "nvrm-adam", "psgd"])
def test_optimizers_with_and_without_noise_stack(toy_spec, optimizer):
    specs = [toy_spec(optimizer=optimizer, seed=seed) for seed in (3, 4)]
    for together, spec in zip(run_stack(specs), specs, strict=True):
        torch.testing.assert_close(
            torch.tensor(together.losses), torch.tensor(run_one(spec).losses), rtol=1e-4, atol=1e-5
        )


def test_members_share_the_stacks_memory():
    members = [torch.nn.Linear(3, 2) for _ in range(4)]
    together = stacked(members)
    x = torch.randn(4, 5, 3)
    out = together(x)
    for k, member in enumerate(members):
        torch.testing.assert_close(out[k], member(x[k]))
    with torch.no_grad():
        together.weight.zero_()
    assert all(bool((alone.weight == 0).all()) for alone in together.members())


def test_a_trial_that_diverges_does_not_spoil_the_others(toy_spec, monkeypatch, tmp_path):
    bad = toy_spec(seed=1)
    build, check = train.build_plugins, LossRecord._check
    alone = []

    def plugins(spec):
        alone.append(spec)
        return build(spec)

    def checked(record):
        total = check(record)
        if record.trials or alone[-1] == bad:
            raise Diverged("as if its loss were not finite")
        return total

    monkeypatch.setattr(train, "build_plugins", plugins)
    monkeypatch.setattr(LossRecord, "_check", checked)
    specs = [toy_spec(seed=0), bad, toy_spec(seed=2)]
    with pytest.raises(Diverged, match="a trial of the stack"):
        run_stack(specs)
    store = Store(tmp_path)
    monkeypatch.setattr(Workers, "groups", lambda self, specs: [tuple(specs)])  # as auto would on a GPU
    results = sweep(specs, store, Workers(jobs=1))
    assert [result.status for result in results] == ["done", "diverged", "done"]
    assert [store.get(spec.id).status for spec in specs] == ["done", "diverged", "done"]


def test_what_cannot_be_stacked_is_refused(toy_spec):
    for model in (torch.nn.BatchNorm1d(3), torch.nn.Dropout()):
        with pytest.raises(UserError, match=f"{type(model).__name__} has buffers or dropout"):
            stacked([model])
    with pytest.raises(ValueError, match="nothing but their seed"):
        run_stack([toy_spec(), replace(toy_spec(), lr=0.1)])
    assert stackable(toy_spec("ewc+nvrm"))


def test_the_trials_of_a_stack_share_one_data_set_on_a_device(toy_spec):
    images = data.load("digits")
    spec = toy_spec(benchmark="noisy-mnist:rate=0", dataset="digits", dataset_sha256=images.sha256)
    first, second = (build_benchmark(replace(spec, seed=seed), None, "cpu")[1] for seed in (0, 1))
    assert first is second


def test_the_command_stacks_and_stores_each_trial_under_its_own_id(cli_json, tmp_path):
    arguments = ["--strategy", "ewc+nvrm", "--trials", "3", "--no-plots"]
    together = cli_json(*arguments, "--stack", "on", "--out", tmp_path / "together")
    alone = cli_json(*arguments, "--stack", "off", "--out", tmp_path / "alone")
    assert [run["id"] for run in together["runs"]] == [run["id"] for run in alone["runs"]]
    for one, many in zip(alone["runs"], together["runs"], strict=True):
        torch.testing.assert_close(torch.tensor(many["accuracy"]), torch.tensor(one["accuracy"]), rtol=0, atol=0.01)


def test_a_strategy_that_cannot_be_stacked_is_run_alone_or_named(cli, cli_json, tmp_path, monkeypatch):
    (tmp_path / "strategies").mkdir()
    monkeypatch.setattr(cl_nvrm, "__path__", [*cl_nvrm.__path__, str(tmp_path)])
    (tmp_path / "strategies" / "plain_one.py").write_text(
        '"""Nothing."""\nfrom avalanche.core import SupervisedPlugin\n\n\ndef plugin():\n'
        '    """Do nothing."""\n    return SupervisedPlugin()\n'
    )
    arguments = ["--strategy", "plain-one", "--trials", "2", "--no-plots"]
    code, _, err = cli("--benchmark", "toy", *arguments, "--stack", "on")
    assert code == 2 and "--stack on: 'plain-one' does not work on stacked trials" in err
    monkeypatch.setattr(Workers, "groups", lambda self, specs: [tuple(specs)])  # as auto would on a GPU
    assert [run["status"] for run in cli_json(*arguments)["runs"]] == ["done", "done"]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("strategy", ["naive", "nvrm", "ewc+nvrm", "si"])
def test_on_a_gpu_each_member_equals_its_trial_run_alone(toy_spec, strategy):
    specs = [toy_spec(strategy, seed=seed) for seed in (0, 1, 5)]
    for together, spec in zip(run_stack(specs, device="cuda"), specs, strict=True):
        alone = run_one(spec, device="cuda")
        torch.testing.assert_close(torch.tensor(together.losses), torch.tensor(alone.losses), rtol=1e-2, atol=1e-3)
