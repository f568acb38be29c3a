import json
import signal
import subprocess
import sys
import time

import pytest

from cl_nvrm.sweep.claim import claim
from cl_nvrm.sweep.store import Store
from cl_nvrm.sweep.sweep import Workers, sweep

COMMAND = (
    sys.executable, "-m", "cl_nvrm.run", "--benchmark", "toy:tasks=8,samples=2000", "--strategy", "ewc+nvrm",
    "--trials", "4", "--no-plots", "--quiet", "--jobs", "2", "--out", "runs",
)  # fmt: skip


def events(folder):
    return {file.stem: [e["event"] for e in Store(folder).run_log(file.stem).read()] for file in folder.glob("*.json")}


def leftovers(folder):
    return {p.name for p in folder.iterdir()} - {p.name for p in folder.glob("*.json")} - {"events"}


@pytest.mark.slow
@pytest.mark.parametrize("flags", [(), ("--no-wait",)])
def test_two_sweeps_on_one_store_share_the_work_and_do_nothing_twice(tmp_path, flags):
    both = [subprocess.Popen((*COMMAND, *flags), cwd=tmp_path) for _ in range(2)]
    assert [process.wait(timeout=300) for process in both] == [0, 0]
    seen = events(tmp_path / "runs")
    assert len(seen) == 4
    assert all(kinds == ["start", *["task"] * 8, "done"] for kinds in seen.values()), seen
    assert not leftovers(tmp_path / "runs")


@pytest.mark.slow
def test_workers_that_lost_their_master_do_not_get_in_the_way(tmp_path):
    folder = tmp_path / "runs"
    first = subprocess.Popen(COMMAND, cwd=tmp_path)
    deadline = time.monotonic() + 120
    while not list(folder.glob("checkpoints/*.safetensors")) and time.monotonic() < deadline:
        time.sleep(0.01)
    first.send_signal(signal.SIGKILL)  # its workers live on for a while
    first.wait()
    subprocess.run(COMMAND, cwd=tmp_path, check=True, timeout=300)
    seen = events(folder)
    assert len(seen) == 4 and all(kinds.count("done") == 1 for kinds in seen.values()), seen
    assert not leftovers(folder)


def test_a_run_that_another_sweep_ends_in_the_meantime_is_taken_from_the_store(toy_spec, tmp_path):
    ours, theirs = (toy_spec("naive", seed=seed) for seed in (0, 1))
    store, other = Store(tmp_path / "a"), Store(tmp_path / "b")
    for each in (store, other):
        each.prepare()
    (ended,) = sweep([theirs], other, Workers(jobs=1))
    with claim(store.claim_path(theirs.id), wait=False):
        done = []

        def then(result):
            done.append(result.id)
            store.save(ended)

        results = sweep([ours, theirs], store, Workers(jobs=1), wait=False, on_result=then)
    assert [result.id for result in results] == done == [ours.id, theirs.id]


def test_the_log_says_what_each_task_came_to(toy_spec, tmp_path):
    store = Store(tmp_path)
    (result,) = sweep([toy_spec("ewc")], store, Workers(jobs=1))
    start, *tasks, done = store.run_log(result.id).read()
    assert (start["event"], done["event"]) == ("start", "done") and start["strategy"] == result.spec.strategy
    assert [tuple(event["accuracy"]) for event in tasks] == list(result.accuracy)
    with (tmp_path / "events" / f"{result.id}.jsonl").open("a") as file:
        file.write('{"cut')
    assert len(store.run_log(result.id).read()) == 2 + len(tasks)


def test_a_failed_run_is_logged_tried_again_and_leaves_nothing(toy_spec, tmp_path, monkeypatch):
    from cl_nvrm.training import train

    spec, store = toy_spec("ewc"), Store(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(train, "build_plugins", lambda spec: 1 / 0)
        (failed,) = sweep([spec], store, Workers(jobs=1))
    assert failed.status == "failed" and "ZeroDivisionError" in failed.error and store.get(spec.id) is None
    (result,) = sweep([spec], store, Workers(jobs=1))
    assert result.status == "done"
    assert [e["event"] for e in store.run_log(spec.id).read() if e["event"] != "task"] == [
        "start", "failed", "start", "done",
    ]  # fmt: skip
    assert json.loads((tmp_path / f"{spec.id}.json").read_text())["status"] == "done" and not leftovers(tmp_path)


def test_threads_of_one_worker_do_not_share_their_random_numbers(toy_spec, tmp_path):
    from concurrent.futures import ThreadPoolExecutor

    from cl_nvrm.sweep.job import Job
    from cl_nvrm.training.train import run_one

    specs = [toy_spec("nvrm", benchmark="toy:width=256", seed=seed) for seed in range(6)]
    store = Store(tmp_path)
    store.prepare()
    job = Job(store, threads=1)
    with ThreadPoolExecutor(4) as pool:
        found = [results[0] for _, results in pool.map(lambda spec: job((spec,), wait=True), specs)]
    for result, spec in zip(found, specs, strict=True):
        assert result.provenance["weights_sha256"] == run_one(spec, threads=1).provenance["weights_sha256"]


def test_a_scheduler_wants_a_backend_and_a_backend_a_scheduler(cli):
    code, _, err = cli("--benchmark", "toy", "--scheduler", "tcp://127.0.0.1:1")
    assert code == 2 and "--backend dask" in err
    for words, says in ((("--scheduler", "tcp://127.0.0.1:1"), "no scheduler at"), ((), "needs --scheduler")):
        code, _, err = cli("--benchmark", "toy", "--backend", "dask", "--quiet", "--no-plots", *words)
        assert code == 2 and says in err, err
