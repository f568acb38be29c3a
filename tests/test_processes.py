"""Workers are forked from a server that has imported, and has done nothing else."""

import os
import signal
import subprocess
import sys
import time
from concurrent.futures import BrokenExecutor
from functools import partial
from pathlib import Path

import pytest

from cl_nvrm.errors import UserError
from cl_nvrm.report.__main__ import write
from cl_nvrm.run.execute import start_workers
from cl_nvrm.run.flags import parse
from cl_nvrm.sweep import processes
from cl_nvrm.sweep.store import Store
from cl_nvrm.sweep.sweep import Workers, sweep

pytestmark = pytest.mark.skipif(not processes.available(), reason="this system has no fork server")
ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(autouse=True)
def _ended():
    yield
    processes.end()


def compute(*calls):
    with processes.workers(2) as make:
        return list(make(calls))


def surroundings():
    """What a worker will find: its modules, how many threads the server has, and something of the environment."""
    code = "set(sys.modules), os.listdir(f'/proc/{os.getppid()}/task'), os.environ.get('ASKED')"
    return partial(eval, f"[({code}) for os in [__import__('os')] for sys in [__import__('sys')]][0]")


def gone(pid):
    for _ in range(100):
        try:
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                return True
        except OSError:
            return True
        time.sleep(0.1)
    return False


def test_a_server_imports_for_all_workers_and_runs_no_thread(monkeypatch):
    loaded, threads, asked = compute(surroundings())[0]
    assert {"torch", "avalanche", "numba", "cl_nvrm.training.train"} <= loaded and len(threads) == 1 and asked is None
    assert not {"torch._dynamo", "wandb", "matplotlib"} & loaded
    monkeypatch.setenv("ASKED", "later")  # than the server was started
    assert compute(surroundings())[0][2] == "later"


def test_workers_are_kept_and_end_at_once_with_what_is_raised(tmp_path):
    first = compute(os.getpid)
    assert compute(os.getpid) == first
    before = signal.signal(signal.SIGALRM, signal.default_int_handler)
    with pytest.raises(KeyboardInterrupt), processes.workers(2) as make:
        signal.alarm(2)  # Ctrl-C, while it waits
        assert first == list(make([os.getpid]))
        next(make([partial(time.sleep, 60)] * 2))
    signal.signal(signal.SIGALRM, before)
    assert gone(first[0])


def test_a_worker_that_is_killed_is_said_and_others_come_in_its_place():
    with pytest.raises(BrokenExecutor):
        compute(partial(os._exit, 9))
    assert compute(partial(int, "3")) == [3]


def test_errors_of_a_call_are_its_own():
    with pytest.raises(UserError, match="There is no folder nowhere"):
        compute(partial(write, [Path("nowhere")], Path(), ""))


@pytest.mark.parametrize(
    ("words", "starts"),
    [
        ((), False),
        (("--trials", "2"), True),
        (("--strategy", "naive", "--strategy", "nvrm"), True),
        (("--strategy", "nvrm:variability=0.1|0.2"), True),
        (("--lr", "0.1|0.2"), True),
        (("--trials", "2", "--jobs", "1"), False),
        (("--trials", "2", "--dry-run"), False),
        (("--trials", "2", "--backend", "loky"), False),
    ],
)
def test_the_server_starts_before_the_plan_where_there_will_be_workers(monkeypatch, words, starts):
    started = []
    monkeypatch.setattr(processes, "start", lambda: started.append(True))
    start_workers(parse(words))
    assert bool(started) == starts


@pytest.mark.slow
def test_results_have_the_same_bits_wherever_they_come_from(toy_spec, tmp_path):
    specs = [toy_spec(strategy, seed=seed) for strategy in ("ewc+nvrm", "sam") for seed in (0, 1)]

    def bits(name, **options):
        results = sweep(specs, Store(tmp_path / name), Workers(**options))
        return [result.provenance["weights_sha256"] for result in results]

    assert bits("processes", jobs=2) == bits("one", jobs=1)


@pytest.mark.slow
def test_a_script_may_ask_for_workers_without_a_guard_and_does_not_load_what_they_do(tmp_path):
    words = ["--benchmark", "toy:tasks=1", "--trials", "2", "--jobs", "2", "--no-plots", "--quiet", "--epochs", "1"]
    script = f"import sys\nfrom cl_nvrm.run import main\nprint('code', main({words}), 'avalanche' in sys.modules)\n"
    (tmp_path / "script.py").write_text(script)
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "script.py"],
        cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.stdout.count("code 0 False") == 1, done.stderr
    assert len(Store(tmp_path / "reports/runs").results()) == 2


@pytest.mark.slow
def test_the_server_imports_what_this_process_would(tmp_path):
    """Not another cl_nvrm that happens to lie where the command is given."""
    (tmp_path / "cl_nvrm").mkdir()
    (tmp_path / "cl_nvrm" / "__init__.py").write_text("raise SystemExit('the wrong one')\n")
    script = f"""
import sys
sys.path[:] = [{str(ROOT)!r}, *(place for place in sys.path if place)]
from cl_nvrm.sweep import processes
from functools import partial
with processes.workers(1) as make:
    ask = "'avalanche' in __import__('sys').modules, __import__('cl_nvrm').__file__"
    print(list(make([partial(eval, ask)]))[0])
"""
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=False,
        env={key: value for key, value in os.environ.items() if key != "PYTHONPATH"},
    )  # fmt: skip
    assert done.stdout == f"{(True, str(ROOT / 'cl_nvrm' / '__init__.py'))}\n", done.stderr
