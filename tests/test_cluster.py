import os
import signal
import threading
import time

import pytest

from cl_nvrm.sweep.store import Store
from cl_nvrm.sweep.sweep import Workers, sweep
from tests.test_checkpoint import measured

distributed = pytest.importorskip("distributed")


@pytest.fixture
def cluster(tmp_path):
    with distributed.LocalCluster(
        n_workers=2,
        threads_per_worker=1,
        processes=True,
        dashboard_address=None,
        local_directory=str(tmp_path / "scratch"),
    ) as made:
        yield made


@pytest.mark.slow
def test_a_cluster_that_loses_a_worker_finds_every_result_the_same_as_on_one_machine(toy_spec, tmp_path, cluster):
    specs = [toy_spec("ewc+nvrm", benchmark="toy:tasks=8,samples=4000", seed=seed) for seed in range(6)]
    stores = {backend: Store(tmp_path / backend) for backend in ("dask", "loky")}
    for store in stores.values():
        store.prepare()
    killed = []

    def kill_one():
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline:  # as soon as some run has got through its first task
            for file in (stores["dask"].folder / "events").glob("*.jsonl"):
                if '"task"' in file.read_text():
                    worker = next(iter(cluster.workers.values()))
                    killed.append(worker.process.pid)
                    os.kill(worker.process.pid, signal.SIGKILL)
                    return
            time.sleep(0.01)

    thread = threading.Thread(target=kill_one)
    thread.start()
    workers = Workers(backend="dask", scheduler=cluster.scheduler_address)
    results = sweep(specs, stores["dask"], workers)
    thread.join()
    assert killed
    assert [r.status for r in results] == ["done"] * 6, [r.error for r in results]
    sweep(specs, stores["loky"], Workers(jobs=2))
    for spec in specs:
        assert measured(stores["dask"].get(spec.id)) == measured(stores["loky"].get(spec.id))
    assert {p.name for p in stores["dask"].folder.iterdir()} == {*(f"{s.id}.json" for s in specs), "events"}
