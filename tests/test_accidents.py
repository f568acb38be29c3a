"""Ordinary accidents end in one line and a documented code, and nothing is written by a command that is refused."""

import os
import signal
import subprocess
import sys
import time
from copy import deepcopy
from pathlib import Path

import pytest
import torch
from avalanche.core import SupervisedPlugin

from cl_nvrm.__main__ import VERBS, main
from cl_nvrm.calibrate import main as calibrate
from cl_nvrm.plugins.nvrm import NVRMPlugin
from cl_nvrm.sweep.store import Store
from cl_nvrm.training.build import build_benchmark, build_strategy

ROOT = Path(__file__).parent.parent
TOY = ("--benchmark", "toy", "--jobs", 1, "--no-plots")
DIGITS = ("--data", "digits", "--benchmark")


def python(*words, **options):
    """Run a verb in a process of its own."""
    environment = os.environ | {"PYTHONPATH": str(ROOT)} | options.pop("env", {})
    options = {"capture_output": True, "text": True, "timeout": 120} | options
    return subprocess.run([sys.executable, "-W", "ignore", "-m", *words], env=environment, **options)


@pytest.mark.parametrize("words", [["--help"], ["-h"]])
def test_help_lists_the_verbs(words, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["cl-nvrm", *words])
    assert main() == 0
    out, err = capsys.readouterr()
    assert err == "" and all(f"  {verb} " in out for verb in VERBS)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ((*TOY, "--frobnicate", 3), "and naive on toy has no such parameter"),
        ((*TOY, "--data", "mnist"), "the benchmark 'toy' makes its own data"),
        ((*TOY, "--tune-seeds", 3), "--tune-seeds is for --tune"),
        ((*TOY, "--tune-tasks", 3), "--tune-tasks is for --tune"),
        ((*TOY, "--strategy", "early-stopping"), "early-stopping needs the curve 'validation accuracy'"),
        ((*TOY, "--strategy", "ewc+replay:memory=2"), "memory must be at least the number of tasks, 3, got 2"),
        ((*TOY, "--strategy", "agem:sample=1"), "sample must be at least the number of tasks, 3, got 1"),
        ((*TOY, "--strategy", "nsr:layer=zzz"), "the network has no layer 'zzz'"),
        ((*TOY, "--strategy", "sam+nsr"), "cannot repeat what another plug-in adds"),
        ((*TOY, "--strategy", "er-ace+label-noise"), "er-ace leaves classes that do not occur in a batch"),
        ((*TOY, "--strategy", "derpp+sam"), "cannot repeat what another plug-in adds"),
        ((*TOY, "--strategy", "er:memory=-1"), "memory must be a number of samples of at least 0"),
        ((*TOY, "--strategy", "sam+nvrm:penalty_at=clean"), "write nvrm:penalty_at=noisy"),
        ((*TOY, "--strategy", "jacobian", "--compile"), "compile"),
        ((*TOY, "--strategy", "agem:sample=99999999999999999999"), "'sample' of 'agem' must be a whole number"),
        ((*TOY, "--epochs", "9" * 400), "must be a whole number of at least 1"),
        ((*TOY, "--seed", 2**63), "must be a whole number of at least 0"),
        ((*TOY, "--lr", "1e400"), "must be a finite number"),
        ((*TOY, "--tasks", 10**17), "tasks must be at most 10000"),
        ((*TOY, "--trials", 10**9, "--dry-run"), "this makes 1000000000 runs; ask for at most 100000"),
        ((*TOY, "--width", 300_000, "--dry-run"), "GiB of weights, this machine"),
        (("--benchmark", "toy:samples=1000000000"), "do not fit into memory"),
        ((*DIGITS, "x", "--data", "x" * 5000), "No 'x' in benchmarks/"),
        ((*DIGITS, "split-mnist:tasks=10", "--strategy", "ewc"), "each task has one class only"),
        ((*DIGITS, "split-mnist:subset=3"), "has no training samples"),
        (("--data", "x" * 5000), "No data set 'xxxx"),
    ],
    ids=lambda value: " ".join(map(str, value))[:60] if isinstance(value, tuple) else "",
)
def test_what_can_be_known_before_is_refused_in_one_line_and_nothing_is_written(cli, tmp_path, words, says):
    code, out, err = cli(*words)
    assert code in (2, 3) and out == "" and len(err.splitlines()) == 1 and says in err
    assert len(err) < 2000 and not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (["--lambda", "nan"], 2, "must be a finite number of at least 0"),
        (["--variability", "-1"], 2, "must be a finite number of at least 0"),
        (["--samples", "1.5"], 2, "must be a whole number of at least 0"),
        (["--strategy", "ewc"], 2, "has no use for --strategy"),
        (["--trials", "3"], 2, "has no use for --trials"),
        (["--format", "json"], 2, "has no use for --format"),
        (["--lr", "1e30", "--optimizer", "sgd"], 4, "diverged"),
    ],
)
def test_calibrate_refuses_what_it_cannot_hear(words, code, says, capsys):
    assert calibrate(["--benchmark", "toy", *words]) == code
    out, err = capsys.readouterr()
    assert out == "" and says in err.splitlines()[-1]


@pytest.mark.slow
@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252"])
@pytest.mark.parametrize("words", [["run", "--help"], ["study", "--help"], ["calibrate", "--benchmark", "toy"]])
def test_terminals_without_greek_get_question_marks(encoding, words):
    done = python(f"cl_nvrm.{words[0]}", *words[1:], env={"PYTHONIOENCODING": encoding}, text=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout and not done.stderr.count(b"Traceback")


def test_terminals_without_greek_get_question_marks_also_in_help():
    done = python("cl_nvrm.study", "--help", env={"PYTHONIOENCODING": "ascii"})
    assert done.returncode == 0 and "?" in done.stdout, done.stderr


def test_a_reader_that_goes_away_is_no_error(tmp_path):
    read, write = os.pipe()
    os.close(read)
    words = ("--list", "strategies")
    done = python("cl_nvrm.run", *words, stdout=write, stderr=subprocess.PIPE, capture_output=False, cwd=tmp_path)
    os.close(write)
    assert (done.returncode, done.stderr) == (141, "")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_output_that_cannot_be_written_is_said(tmp_path):
    with Path("/dev/full").open("w") as full:
        done = python("cl_nvrm.run", "--list", "schedules", stdout=full, stderr=subprocess.PIPE, capture_output=False)
    assert done.returncode == 2 and done.stderr.startswith("cl_nvrm: No space left on device")
    assert len(done.stderr.splitlines()) == 1


def test_an_unknown_backend_of_matplotlib_is_blamed_on_its_variable(tmp_path):
    done = python("cl_nvrm.run", *map(str, TOY), env={"MPLBACKEND": "nonsense"}, cwd=tmp_path)
    assert done.returncode == 2 and "MPLBACKEND is 'nonsense'" in done.stderr and not list(tmp_path.iterdir())


def test_without_a_home_that_can_be_written_the_command_works_and_leaves_nothing_behind(tmp_path):
    home = tmp_path / "nowhere"
    done = python(
        "cl_nvrm.run", *map(str, TOY), "--dry-run", env={"HOME": str(home), "TMPDIR": str(tmp_path)}, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    assert [path.name for path in tmp_path.iterdir()] == [f"cl_nvrm-{os.getuid()}"]


def test_a_disk_that_fills_while_a_traceback_is_written_is_said(cli, monkeypatch):
    def broken(*_, **__):
        raise RuntimeError("as if training failed")

    def full(path, *_, **__):
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr("cl_nvrm.training.train.train_tasks", broken)
    monkeypatch.setattr(Path, "write_text", full)
    code, _, err = cli(*TOY, "--quiet")
    assert code == 2 and err.splitlines()[-1].endswith("goes on from there") and "No space left" in err


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGHUP])
def test_workers_end_with_the_command_that_asked(number, tmp_path):
    words = ["--benchmark", "toy:tasks=200,samples=2000", "--trials", "2", "--jobs", "2", "--quiet", "--no-plots"]
    process = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-m", "cl_nvrm.run", *words],
        cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(ROOT)}, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    for _ in range(600):
        if len(list(tmp_path.glob("reports/runs/checkpoints/*.safetensors"))) == 2:
            break
        time.sleep(0.1)
    children = _descendants(process.pid)
    process.send_signal(number)
    process.wait(60)
    for _ in range(300):
        if not any(_runs(child) for child in children):
            break
        time.sleep(0.1)
    assert len(children) > 2 and not any(_runs(child) for child in children)
    assert not Store(tmp_path / "reports/runs").load()[1]


def _descendants(pid):
    """The processes below one: a server's workers, too."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [*children, *(other for child in children for other in _descendants(child))]


def _runs(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


class Stopper(SupervisedPlugin):
    """Ends a task between the announcement of an epoch and the epoch, as early stopping does."""

    def before_training_epoch(self, strategy, **kwargs):
        strategy.stop_training()


def test_a_copy_of_a_strategy_that_stopped_early_still_trains(toy_spec):
    spec = toy_spec(benchmark="toy:tasks=2", epochs=2)
    benchmark, _ = build_benchmark(spec, None, "cpu")
    strategy = build_strategy(spec, benchmark, [NVRMPlugin(0.1), Stopper()], "cpu")
    first, second = benchmark.streams().train_stream
    strategy.train(first)
    assert "training_epoch" not in vars(strategy)
    copied = deepcopy(strategy)
    before = [p.detach().clone() for p in copied.model.parameters()]
    copied.plugins[:] = [plugin for plugin in copied.plugins if not isinstance(plugin, Stopper)]
    copied.train(second)
    assert any(not torch.equal(old, new) for old, new in zip(before, copied.model.parameters(), strict=True))
