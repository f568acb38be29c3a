import signal
import subprocess
import sys
from dataclasses import replace

import pytest
from avalanche.core import SupervisedPlugin

from cl_nvrm.sweep.claim import claim
from cl_nvrm.sweep.store import Store
from cl_nvrm.training import checkpoint
from cl_nvrm.training.train import run_one

TASKS = "toy:tasks=4"


class Stop(Exception):
    pass


def stopping_after(tasks):
    def on_task(history, share):
        if len(history.accuracy) == tasks:
            raise Stop

    return on_task


def measured(result):
    """All of a result but what a clock said, and how large the process was."""
    about = {k: v for k, v in result.provenance.items() if k not in ("commit", "dirty", "peak_bytes")}
    return replace(result, train_seconds=0.0, eval_seconds=0.0, provenance=about)


@pytest.mark.parametrize(
    ("strategy", "changes"),
    [
        ("naive", {}),
        ("nvrm", {}),
        ("nvrm:penalty_at=clean+ewc", {}),
        ("ewc+nvrm", {"benchmark": f"{TASKS},heads=true"}),
        ("ewc:mode=online,decay=0.5", {}),
        ("si+nvrm:noise=laplace", {}),
        ("nvrm", {"optimizer": "nvrm-sgd:momentum=0.9", "lr": 0.05, "strategy": "naive"}),
        ("si", {"optimizer": "psgd:variability=0.001", "lr": 0.05}),
        ("ewc", {"eval_every": 3}),
        ("er:balanced=true+nvrm", {"benchmark": f"{TASKS},heads=true"}),
        ("derpp+si+nvrm", {}),
        ("er-ace", {}),
        ("replay:mix=concatenated", {"benchmark": f"{TASKS},heads=true"}),
    ],
    ids=str,
)
@pytest.mark.parametrize("keeps_optimizer", [pytest.param(False, marks=pytest.mark.slow), True])
def test_a_run_that_goes_on_ends_bit_for_bit_as_one_that_was_never_stopped(
    toy_spec, tmp_path, monkeypatch, strategy, changes, keeps_optimizer
):
    from cl_nvrm.training import train

    build = train.build_benchmark

    def built(*arguments):
        made, images = build(*arguments)
        return replace(made, recipe=replace(made.recipe, fresh_optimizer=not keeps_optimizer)), images

    monkeypatch.setattr(train, "build_benchmark", built)
    changes = {"benchmark": TASKS, **changes}
    spec = toy_spec(changes.pop("strategy", strategy), **changes)
    whole = run_one(spec, threads=1)
    file = tmp_path / "checkpoints" / "run.safetensors"
    for stop in (1, 3):
        with pytest.raises(Stop):
            run_one(spec, threads=1, checkpoint=file, on_task=stopping_after(stop))
        assert file.is_file()
    heard = []
    resumed = run_one(spec, threads=1, checkpoint=file, on_task=lambda history, share: heard.append(share))
    assert heard == [1.0]
    assert measured(resumed) == measured(whole)


def test_a_checkpoint_from_before_a_plug_in_had_one_more_attribute_lets_the_run_start_over(
    toy_spec, tmp_path, monkeypatch
):
    from cl_nvrm.plugins.distillation import LwFPlugin

    spec = toy_spec("lwf", benchmark=TASKS)
    whole = run_one(spec, threads=1)
    file = tmp_path / "checkpoints" / "run.safetensors"
    with pytest.raises(Stop):
        run_one(spec, threads=1, checkpoint=file, on_task=stopping_after(2))
    before = LwFPlugin.__init__

    def with_one_more(plugin, *arguments, **keywords):
        before(plugin, *arguments, **keywords)
        plugin.one_more = 1

    monkeypatch.setattr(LwFPlugin, "__init__", with_one_more)
    heard = []
    resumed = run_one(spec, threads=1, checkpoint=file, on_task=lambda history, share: heard.append(share))
    assert heard == [0.25, 0.5, 0.75, 1.0] and measured(resumed) == measured(whole)


def test_a_stack_goes_on_bit_for_bit(toy_spec, tmp_path):
    from cl_nvrm.training.stack import run_stack

    specs = [toy_spec("ewc+nvrm", benchmark=TASKS, seed=seed) for seed in range(3)]
    whole = run_stack(specs, threads=1)
    file = tmp_path / "checkpoints" / "stack.safetensors"
    with pytest.raises(Stop):
        run_stack(specs, threads=1, checkpoint=file, on_task=stopping_after(2))
    resumed = run_stack(specs, threads=1, checkpoint=file)
    assert [measured(r) for r in resumed] == [measured(r) for r in whole]


@pytest.mark.parametrize("damage", ["cut", "other code", "foreign", "empty"])
def test_a_checkpoint_that_is_none_is_passed_over(toy_spec, tmp_path, monkeypatch, damage):
    spec = toy_spec("nvrm", benchmark=TASKS)
    file = tmp_path / "checkpoints" / "run.safetensors"
    with pytest.raises(Stop):
        run_one(spec, threads=1, checkpoint=file, on_task=stopping_after(2))
    if damage == "cut":
        file.write_bytes(file.read_bytes()[:-100])
    elif damage == "empty":
        file.write_bytes(b"")
    elif damage == "foreign":
        with pytest.raises(Stop):
            run_one(toy_spec("ewc", benchmark=TASKS), threads=1, checkpoint=file, on_task=stopping_after(1))
    else:
        monkeypatch.setattr(checkpoint, "provenance", lambda: {"versions": {"torch": "0"}})
    heard = []
    result = run_one(spec, threads=1, checkpoint=file, on_task=lambda history, share: heard.append(share))
    assert measured(result) == measured(run_one(spec, threads=1))
    assert damage == "foreign" or heard == [0.25, 0.5, 0.75, 1.0]


def test_a_plug_in_with_state_nobody_can_write_down_runs_without_checkpoints(toy_spec, tmp_path, monkeypatch):
    from cl_nvrm.training import train

    class Opaque(SupervisedPlugin):
        def __init__(self):
            super().__init__()
            self.memory = object()

    monkeypatch.setattr(train, "build_plugins", lambda spec: {"opaque": Opaque()})
    file = tmp_path / "checkpoints" / "run.safetensors"
    with pytest.raises(Stop):
        run_one(toy_spec(benchmark=TASKS), threads=1, checkpoint=file, on_task=stopping_after(2))
    assert not file.exists()


def test_a_claim_is_held_by_one_process_and_goes_with_it(tmp_path):
    path = tmp_path / "checkpoints" / "run.claim"
    code = f"""
import sys, time
from pathlib import Path
from cl_nvrm.sweep.claim import claim
with claim(Path({str(path)!r}), wait=False) as mine:
    print(mine, flush=True)
    time.sleep(60)
"""
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout.readline() == "True\n"
        with claim(path, wait=False) as mine:
            assert not mine
        holder.send_signal(signal.SIGKILL)
        holder.wait()
    with claim(path, wait=False) as mine:
        assert mine
    with claim(path, wait=True) as mine:
        assert mine
    assert list(tmp_path.iterdir()) == []


# Imports once, then forks a sweep for each kill, so that many kills take seconds.
KILLER = """
import os, random, signal, sys, time
from pathlib import Path

import torch

torch.set_num_threads(1)
from cl_nvrm.sweep import job
from cl_nvrm.training import stack, train
from cl_nvrm.spec import RunSpec
from cl_nvrm.sweep.store import Store
from cl_nvrm.sweep.sweep import Workers, sweep

folder, kills, seed = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
chance = random.Random(seed)
strategies = sys.argv[4:]
specs = [RunSpec(s, "BENCHMARK", "synthetic", "", 0, 2, 32, "OPTIMIZER", 3e-3, 0.0) for s in strategies]
store = Store(folder)
store.prepare()


def child():
    pid = os.fork()
    if not pid:
        torch.set_num_threads(1)
        sweep(specs, store, Workers(jobs=1, stack="off"))
        os._exit(0)
    return pid


killed = 0
while killed < kills:
    pid = child()
    time.sleep(chance.uniform(0, 0.5))
    os.kill(pid, signal.SIGKILL)
    if os.WIFSIGNALED(os.waitpid(pid, 0)[1]):
        killed += 1
    elif all(store.get(spec.id) for spec in specs):
        break
print(killed, flush=True)
assert os.waitpid(child(), 0)[1] == 0
"""


@pytest.mark.parametrize(
    ("kills", "strategies"),
    [(1, ["ewc+nvrm"]), pytest.param(30, ["naive", "ewc+nvrm", "si+nvrm", "nvrm"], marks=pytest.mark.slow)],
)
def test_kills_leave_every_result_as_if_there_had_been_none(kills, strategies, toy_spec, tmp_path):
    specs = [toy_spec(s, benchmark="toy:tasks=12,samples=1500") for s in strategies]
    code = KILLER.replace("BENCHMARK", specs[0].benchmark).replace("OPTIMIZER", specs[0].optimizer)
    texts = [spec.strategy for spec in specs]
    killed = 0
    for attempt in range(8):
        folder = tmp_path / str(attempt)
        out = subprocess.run(
            [sys.executable, "-c", code, str(folder), str(kills - killed), str(attempt), *texts],
            capture_output=True, text=True, check=True, timeout=300,
        )  # fmt: skip
        killed += int(out.stdout)
        results, damaged = Store(folder).load()
        assert not damaged and {r.id for r in results} == {s.id for s in specs}
        for spec in specs:
            assert measured(Store(folder).get(spec.id)) == measured(run_one(spec, threads=1))
            events = [e["event"] for e in Store(folder).run_log(spec.id).read()]
            assert events.count("done") <= 1 and "failed" not in events
        assert {p.name for p in folder.iterdir()} == {*(f"{s.id}.json" for s in specs), "events"}
        if killed >= kills:
            break
    assert killed >= kills
