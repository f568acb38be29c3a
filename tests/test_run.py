import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from cl_nvrm.spec import RunSpec
from cl_nvrm.sweep.claim import claim
from cl_nvrm.sweep.store import Store

TOY = ("--benchmark", "toy", "--jobs", 1)


def test_the_json_object_keeps_its_contract(cli_json, tmp_path):
    out = cli_json("--strategy", "ewc+nvrm", "--lambda", 30, "--trials", 2)
    assert out.keys() == {"schema", "runs", "comparisons", "figures", "store"} and out["schema"] == 1
    for seed, run in enumerate(out["runs"]):
        assert run["seed"] == seed and run["status"] == "done" and run["dataset"] == "synthetic"
        assert RunSpec(**run["spec"]).id == run["id"]
        assert run["strategy"].startswith("ewc:lambda=30,") and "+nvrm:variability=0.03" in run["strategy"]
        matrix = run["accuracy"]
        assert run["base_task"] == [row[0] for row in matrix]
        expected = [sum(row[: t + 1]) / (t + 1) for t, row in enumerate(matrix)]
        assert run["mean_accuracy"] == pytest.approx(expected)
        assert (tmp_path / out["store"] / f"{run['id']}.json").is_file()
    names = {Path(f).name for f in out["figures"]}
    assert names == {f"{n}.{s}" for n in ("base_task", "mean_accuracy", "accuracy_matrix") for s in ("png", "svg")}
    assert all((tmp_path / f).stat().st_size > 1000 for f in out["figures"])


def test_a_second_run_takes_everything_from_the_store_and_draws_the_same_figures(cli, cli_json, tmp_path):
    first = cli_json("--strategy", "naive", "--strategy", "nvrm")
    before = {f: (tmp_path / f).read_bytes() for f in first["figures"]}
    stamps = {p: p.stat().st_mtime_ns for p in (tmp_path / first["store"]).glob("*.json")}
    code, out, err = cli(*TOY, "--strategy", "naive", "--strategy", "nvrm", "--format", "json")
    assert code == 0 and "2 of 2 runs stored already" in err
    assert json.loads(out)["runs"] == json.loads(json.dumps(first["runs"]))
    assert {p: p.stat().st_mtime_ns for p in stamps} == stamps
    assert {f: (tmp_path / f).read_bytes() for f in before} == before


def test_the_json_tells_runs_of_a_grid_apart(cli_json):
    runs = cli_json("--lr", "0.001|0.01", "--no-plots")["runs"]
    assert [run["spec"]["lr"] for run in runs] == [0.001, 0.01]
    assert all(RunSpec(**run["spec"]).id == run["id"] for run in runs)


def test_figures_of_another_command_are_kept_beside_the_new_ones(cli, tmp_path):
    folder = tmp_path / "reports/runs/figures"
    assert cli(*TOY, "--strategy", "naive")[0] == 0
    (folder / "own.png").write_bytes(b"a user's")
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    code, _, err = cli(*TOY, "--strategy", "l1")
    (other,) = [path for path in folder.iterdir() if path.is_dir()]
    assert code == 0 and str(Path(other.name)) in err and "earlier command" in err
    assert {path.name: path.read_bytes() for path in other.iterdir()} | {"own.png": b"a user's"} == before
    new = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    assert new.keys() == before.keys() and new["base_task.png"] != before["base_task.png"]
    assert "earlier command" not in cli(*TOY, "--strategy", "l1")[2]


def test_a_file_of_another_run_under_a_planned_name_is_kept_aside_and_the_run_is_trained(cli, cli_json, tmp_path):
    first, second = cli_json("--trials", 2, "--no-plots")["runs"]
    runs = tmp_path / "reports/runs"
    (runs / f"{second['id']}.json").write_text((runs / f"{first['id']}.json").read_text())
    code, out, err = cli(*TOY, "--trials", 2, "--no-plots", "--format", "json")
    assert code == 0 and "1 of 2 runs stored already" in err and f"{second['id']}.damaged" in err
    assert [run["accuracy"] for run in json.loads(out)["runs"]] == [first["accuracy"], second["accuracy"]]
    (runs / f"{first['id']}.json").write_text("{")
    code, out, err = cli(*TOY, "--trials", 2, "--dry-run")
    assert code == 0 and f"{first['id']}.json is left out" in err and out.count("to do,") == 2


@pytest.mark.parametrize("tasks", [5, 10, 20])
def test_rows_of_the_table_keep_their_names_however_many_tasks_there_are(cli, tasks):
    code, out, _ = cli("--benchmark", f"toy:tasks={tasks},samples=16", "--epochs", 1, "--jobs", 1, "--no-plots",
                       "--trials", 2, "--quiet")  # fmt: skip
    rows = [line.split("│")[1].strip() for line in out.splitlines() if line.startswith("│")]
    assert code == 0 and "base task" in out and "mean accuracy" in out and out.count("±") == 2 * tasks
    assert rows == (["base task", "mean accuracy"] if tasks == 5 else [str(task) for task in range(1, tasks + 1)])


def test_fresh_trains_again(cli_json, tmp_path):
    first = cli_json()
    file = tmp_path / first["store"] / f"{first['runs'][0]['id']}.json"
    stamp = file.stat().st_mtime_ns
    again = cli_json("--fresh")
    assert file.stat().st_mtime_ns > stamp and again["runs"][0]["accuracy"] == first["runs"][0]["accuracy"]


def test_the_table_shows_both_curves_with_mean_and_deviation(cli):
    code, out, err = cli(*TOY, "--strategy", "ewc:lambda=30+nvrm", "--trials", 2)
    assert code == 0
    assert "ewc:lambda=30+nvrm  (n = 2, %)" in out and "base task" in out and "mean accuracy" in out
    assert out.count("±") == 6 and "base_task.png" in out
    assert "domain-incremental" in err and "chance 25%" in err and "device: cpu" in err and "run 2 of 2" in err


def test_quiet_says_nothing_on_stderr(cli):
    assert cli(*TOY, "--quiet", "--no-plots")[2] == ""


def test_a_dry_run_shows_the_runs_and_writes_nothing(cli, tmp_path):
    code, out, _ = cli(*TOY, "--strategy", "ewc", "--trials", 3, "--dry-run")
    *runs, total, worker = out.splitlines()
    assert code == 0 and len(runs) == 3 and all("to do, about" in line for line in runs)
    assert total.startswith("3 of 3 runs to do, about")
    assert re.fullmatch(r"a worker process takes about [0-9]\.[0-9] GB, and about \d+ s for the longest run", worker)
    assert list(tmp_path.iterdir()) == []


def test_a_dry_run_knows_what_is_stored_and_estimates_from_it(cli, cli_json, tmp_path):
    stored = Path(cli_json("--strategy", "ewc", "--no-plots")["store"])
    (file,) = (tmp_path / stored).glob("*.json")
    text = re.sub(r'"train_seconds": [\d.]+', '"train_seconds": 4000.0', file.read_text())
    file.write_text(re.sub(r'"peak_bytes": \d+', '"peak_bytes": 123400000000', text))
    code, out, _ = cli(*TOY, "--strategy", "ewc:lambda=1|100", "--lr", "0.003", "--dry-run")
    lines = out.splitlines()
    assert code == 0 and "to do, about 67 min" in lines[0] and "  stored  " in lines[1]
    assert lines[2].startswith("1 of 2 runs to do, about 67 min")
    assert lines[3] == "a worker process takes about 123.4 GB, and about 67 min for the longest run"
    assert len(cli(*TOY, "--strategy", "ewc", "--dry-run")[1].splitlines()) == 2  # nothing to do takes nothing


def test_no_wait_leaves_a_run_to_the_command_that_is_at_it(cli, toy_spec, tmp_path, monkeypatch):
    flags = (*TOY, "--trials", 2, "--jobs", 1, "--no-plots", "--no-wait", "--out", "runs")
    first, second = (line.split()[0] for line in cli(*flags, "--dry-run")[1].splitlines()[:2])
    store = Store(tmp_path / "runs")
    with claim(store.claim_path(first), wait=False):
        code, out, err = cli(*flags)
        assert code == 0 and not out and "1 run under way in other commands" in err
        assert (store.get(first), store.get(second).status) == (None, "done")
        code, out, err = cli(*flags, "--format", "json")
        assert code == 0 and [run["id"] for run in json.loads(out)["runs"]] == [second]
    code, out, err = cli(*flags)  # the other one was killed
    assert code == 0 and "mean accuracy" in out and store.get(first).status == "done"
    assert cli(*flags, "--tune", 2)[0] == 2


@pytest.fixture
def on_a_clock(monkeypatch, toy_spec):
    """Estimate a run on a clock that only steps, tasks and evaluated images move on; say how many steps it took."""
    from cl_nvrm.sweep import steps
    from cl_nvrm.training.build import build_benchmark
    from cl_nvrm.training.loop import Strategy

    def measure(a_step, a_task, a_test, once=0.0):
        spec = toy_spec("ewc", benchmark="toy:tasks=4,samples=6000", epochs=3)  # 188 steps an epoch of 32 images
        images = len(build_benchmark(spec, None, "cpu")[0].test[0])
        now, trained = [0.0], []

        def train(strategy, experience, **_):
            trained.append(strategy.train_epochs * len(experience.dataset) / strategy.train_mb_size)
            now[0] += a_task + a_step * trained[-1] + once * (trained.count(8) == 1 and trained[-1] == 8)

        def evaluate(_, test):
            now[0] += a_test * len(test) / images

        monkeypatch.setattr(steps.time, "perf_counter", lambda: now[0])
        monkeypatch.setattr(Strategy, "train", train)
        monkeypatch.setattr(steps, "accuracy_on", evaluate)
        return steps.measure(spec, None, "cpu", 1), sum(trained)

    return measure


def test_an_estimate_adds_up_steps_tasks_and_evaluations(on_a_clock):
    evaluations = 5 * 4 * 0.02
    seconds, steps = on_a_clock(a_step=0.02, a_task=0.05, a_test=0.02)
    assert seconds == pytest.approx(4 * 3 * 188 * 0.02 + 4 * 0.05 + evaluations) and steps == 3 / 8 + 2 * (8 + 24)
    late, _ = on_a_clock(a_step=0.02, a_task=0.05, a_test=0.02, once=9.0)  # what is compiled in the first short task
    assert late == pytest.approx(seconds)
    seconds, steps = on_a_clock(a_step=3, a_task=0, a_test=0.02)  # what a large network takes, says a part of a step
    assert seconds == pytest.approx(4 * 3 * 188 * 3 + evaluations) and steps == 2 / 8


def test_flags_take_dashes_and_underscores(cli):
    ids = set()
    for flags in (["--batch-size", "16", "--weight-decay=0.1"], ["--batch_size", "16", "--weight_decay=0.1"]):
        code, out, _ = cli(*TOY, "--strategy", "nvrm", "--penalty_at", "clean", *flags, "--dry-run")
        assert code == 0 and "penalty_at=clean" in out
        ids.add(out.split()[0])
    assert len(ids) == 1


def test_a_bare_flag_reaches_every_strategy_that_takes_it(cli):
    _, out, _ = cli(
        *TOY, "--strategy", "ewc", "--strategy", "ewc+nvrm", "--strategy", "naive", "--lambda", 7, "--dry-run"
    )
    assert out.count("lambda=7,") == 2


def test_tasks_and_recipe_flags_reach_the_spec(cli_json):
    out = cli_json("--tasks", 2, "--epochs", 1, "--lr", 0.01, "--optimizer", "sgd:momentum=0.9", "--no-plots")
    run = json.loads((Path(out["store"]) / f"{out['runs'][0]['id']}.json").read_text())
    assert run["spec"]["epochs"] == 1 and run["spec"]["lr"] == 0.01 and len(run["accuracy"]) == 2
    assert run["spec"]["optimizer"] == "sgd:momentum=0.9,nesterov=false" and out["figures"] == []


@pytest.mark.parametrize("kind", ["strategies", "benchmarks", "optimizers", "models"])
def test_lists_give_summaries_parameters_and_defaults(cli, kind):
    code, out, _ = cli("--list", kind, "--format", "json")
    entries = json.loads(out)[kind]
    assert code == 0 and all(entry["summary"] for entry in entries.values())
    if kind == "strategies":
        assert entries["ewc"]["parameters"]["lambda"] == 100.0 and entries["naive"]["parameters"] == {}
    code, out, _ = cli("--list", kind)
    assert code == 0 and all(f"{name}: " in out for name in entries)


@pytest.mark.slow
def test_parallel_trials_equal_sequential_ones(cli, tmp_path):
    def accuracies(jobs, out):
        code, text, err = cli(
            "--benchmark", "toy", "--strategy", "ewc+nvrm", "--trials", 2, "--jobs", jobs, "--out", out,
            "--format", "json", "--no-plots",
        )  # fmt: skip
        assert code == 0, err
        return [run["accuracy"] for run in json.loads(text)["runs"]]

    assert accuracies(2, "a") == accuracies(1, "b")


BAD = [
    (["--strategy", "ewx"], 2, "No 'ewx' in strategies/. Did you mean 'ewc'?"),
    (["--benchmark", "tpy"], 2, "Did you mean 'toy'"),
    (["--strategy", "ewc:lam=3"], 2, "'ewc' has no parameter 'lam'; it has lambda"),
    (["--optimizer", "adm"], 2, "Did you mean 'adam'"),
    (["--foo", "3"], 2, "No flag --foo, and naive on toy has no such parameter"),
    (["--trails", "3"], 2, "did you mean --trials?"),
    (["--foo"], 2, "No flag --foo"),
    (["foo"], 2, "'foo' belongs to no flag"),
    (["--lambda", "3"], 2, "--lambda is taken by ewc, jacobian, l1, mas, nsr, not by naive; write --strategy ewc"),
    (["--strategy", "ewc", "--lambda", "x"], 2, "must be a finite number, got 'x'"),
    (["--strategy", "ewc", "--lambda", "-1"], 2, "lambda must be at least 0, got -1"),
    (["--strategy", "nvrm", "--variability", "-0.1"], 2, "variability must be a finite number of at least 0"),
    (["--strategy", "nvrm", "--variability", "inf"], 2, "finite number, got 'inf'"),
    (["--strategy", "nvrm", "--variability", "nan"], 2, "finite number, got 'nan'"),
    (["--strategy", "ewc", "--lambda", "1", "--lambda", "2"], 2, "given twice"),
    (["--trials", "0"], 2, "at least 1, got '0'"),
    (["--trials", "-1"], 2, "at least 1, got '-1'"),
    (["--trials", "many"], 2, "a whole number"),
    (["--seed", "-1"], 2, "at least 0"),
    (["--lr", "nan"], 2, "finite number"),
    (["--tasks", "0"], 2, "at least 1"),
    (["--jobs", "0"], 2, "at least 1"),
    (["--device", "cuda:99"], 2, "--device cuda:99 is not available here"),
    (["--device", "toaster"], 2, "--device cpu"),
    (["--device", "meta"], 2, "--device cpu"),
    (["--optimizer", "sgd:momentum=-1"], 2, "sgd: Invalid momentum value: -1"),
    (["--format", "xml"], 2, "table"),
    (["--list", "cats"], 2, "strategies"),
    (["--out", "/dev/null/runs"], 2, "--out"),
    (["--benchmark", "noisy-mnist:rate=1.2", "--data", "digits"], 2, "noisy-mnist: rate must lie within 0 and 1"),
    (
        ["--benchmark", "noisy-mnist:noise=pair", "--data", "digits"],
        2,
        "No noise 'pair'; there are symmetric, pairflip",
    ),
    (["--benchmark", "noisy-mnist:subset=60001", "--data", "digits"], 2, "within the 60000 training images"),
    (["--benchmark", "noisy-mnist:model=mpl", "--data", "digits"], 2, "No 'mpl' in models/. Did you mean 'mlp'?"),
    (["--benchmark", "noisy-mnist:model=mlp(width=0)", "--data", "digits"], 2, "width must be at least 1"),
    (["--benchmark", "noisy-mnist:model=mlp(width=8", "--data", "digits"], 2, "is not of the form name or name("),
    (["--benchmark", "noisy-mnist:model=resnet34", "--data", "digits", "--schedule", "stp"], 2, "Did you mean 'steps'"),
    (["--schedule", "steps:factor=3"], 2, "steps: drops must be at least 0 and factor within"),
    (["--precision", "float8"], 2, "bfloat16"),
    (["--benchmark", "toy:heads=true", "--precision", "bfloat16"], 2, "single head"),
    (["--benchmark", "noisy-mnist:subset=100", "--data", "digits", "--stack", "on"], 2, "write --stack auto"),
    (["--benchmark", "noisy-cifar10", "--data", "cifar10"], 3, "No data set 'cifar10'"),
    (["--benchmark", "permuted-mnist", "--data", "nope"], 3, "No data set 'nope'"),
    (["--benchmark", "permuted-mnist", "--data", "mnist"], 3, "--data digits"),
]


@pytest.mark.parametrize(("arguments", "code", "says"), BAD, ids=[" ".join(a) for a, _, _ in BAD])
def test_bad_input_gets_one_line_the_right_code_and_writes_nothing(arguments, code, says, cli, tmp_path):
    given = arguments if "--benchmark" in arguments else ["--benchmark", "toy", *arguments]
    got, out, err = cli(*given, "--quiet")
    assert got == code and says in err and out == ""
    assert len(err.strip().splitlines()) == 1 and "Traceback" not in err
    assert list(tmp_path.iterdir()) == []


def test_a_diverged_run_exits_with_4_and_keeps_its_partial_accuracy(cli, tmp_path):
    code, out, err = cli(*TOY, "--optimizer", "sgd", "--lr", 1e30, "--strategy", "naive")
    assert code == 4 and "diverged" in out and "Traceback" not in err
    (file,) = (tmp_path / "reports" / "runs").glob("*.json")
    assert json.loads(file.read_text())["status"] == "diverged"


def test_a_failed_run_exits_with_1_leaves_the_others_alone_and_is_tried_again(cli, tmp_path, monkeypatch):
    from cl_nvrm.plugins.ewc import EWCPlugin

    def broken(self, strategy, **kwargs):
        raise KeyError("a bug in a plug-in")

    with monkeypatch.context() as patch:
        patch.setattr(EWCPlugin, "after_training_exp", broken)
        code, out, err = cli(*TOY, "--strategy", "ewc", "--strategy", "naive")
    assert code == 1 and "failed (KeyError" in out and "naive  (n = 1" in out
    (log,) = (tmp_path / "reports" / "runs").glob("*.failed.txt")
    assert "a bug in a plug-in" in log.read_text() and log.name in err
    code, out, err = cli(*TOY, "--strategy", "ewc", "--strategy", "naive")
    assert code == 0 and "1 of 2 runs stored already" in err


def test_diagnostics_that_are_no_finite_numbers_fail_that_run_alone(cli, monkeypatch):
    from cl_nvrm.plugins.nvrm import NVRMPlugin

    monkeypatch.setattr(
        NVRMPlugin, "after_training_exp", lambda self, *_, **__: setattr(self, "diagnostics", {"x": float("nan")})
    )
    code, out, _ = cli(*TOY, "--strategy", "nvrm", "--strategy", "naive", "--no-plots")
    assert code == 1 and "failed (ValueError" in out and "naive  (n = 1" in out


@pytest.mark.slow
@pytest.mark.parametrize(("name", "code"), [("SIGTERM", 75), ("SIGINT", 130)])
def test_a_signal_ends_the_sweep_with_its_code_and_keeps_what_is_finished(tmp_path, name, code):
    command = [
        sys.executable, "-m", "cl_nvrm.run", "--benchmark", "toy:samples=2048", "--trials", "500", "--jobs", "1",
        "--out", str(tmp_path), "--no-plots",
    ]  # fmt: skip
    process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 90
    while not list(tmp_path.glob("*.json")) and time.monotonic() < deadline:
        time.sleep(0.1)
    process.send_signal(getattr(signal, name))
    _, err = process.communicate(timeout=60)
    assert process.returncode == code and "the same command goes on from there" in err
    assert "Traceback" not in err
    for file in tmp_path.glob("*.json"):
        assert json.loads(file.read_text())["status"] == "done"


def test_backends_without_their_package_say_what_to_install(cli, monkeypatch):
    for backend, package in (("dask", "distributed"), ("ray", "ray")):
        monkeypatch.setitem(sys.modules, package, None)
        code, _, err = cli(
            "--benchmark", "toy", "--trials", 2, "--jobs", 2, "--backend", backend, "--quiet", "--no-plots"
        )
        assert code == 2 and f"pip install 'cl_nvrm[{backend}]'" in err


def test_auto_data_falls_back_with_a_note_and_names_the_set_everywhere(cli, monkeypatch):
    from cl_nvrm.data import sources

    monkeypatch.setattr(sources, "_download", lambda name: "no network")
    arguments = ("--benchmark", "permuted-mnist:subset=256,width=8,tasks=1", "--jobs", 1)
    code, out, err = cli(*arguments, "--format", "json")
    assert code == 0 and "note: mnist is not on disk" in err and "data: digits" in err
    assert json.loads(out)["runs"][0]["dataset"] == "digits"


def test_help_shows_every_default():
    environment = {k: v for k, v in os.environ.items() if k != "COLUMNS"}
    out = subprocess.run(
        [sys.executable, "-m", "cl_nvrm.run", "--help"], capture_output=True, text=True, check=True, env=environment
    ).stdout
    for text in (
        "permuted-mnist",
        "split-mnist",
        "agem, asam, ",
        "(default: reports/runs)",
        "(default: 0)",
    ):
        assert text in " ".join(out.split())


@pytest.mark.data
@pytest.mark.slow
def test_on_real_mnist_ewc_with_nvrm_remembers_what_naive_forgets(cli):
    if "CL_NVRM_DATA" not in os.environ:
        pytest.skip("set CL_NVRM_DATA to a folder with MNIST")
    code, out, err = cli(
        "--data", "mnist", "--strategy", "ewc+nvrm", "--strategy", "naive", "--lambda", 100, "--format", "json"
    )
    assert code == 0, err
    both, naive = (run["base_task"][-1] for run in json.loads(out)["runs"])
    assert both > 0.9 > naive + 0.2


def test_parameters_of_the_benchmark_are_flags_unless_a_strategy_has_them(cli_json):
    runs = cli_json("--width", 7, "--samples=64", "--tasks", 1, "--epochs", 1, "--no-plots")["runs"]
    assert "samples=64" in runs[0]["benchmark"] and "width=7" in runs[0]["benchmark"]


def test_a_batch_of_one_sample_is_refused_where_it_cannot_be_normalised(cli):
    words = ["--benchmark", "random-labels:subset=33", "--data", "digits", "--batch-size", "32", "--dry-run"]
    code, out, err = cli(*words, "--model", "ioc-mlp(width=8)")
    assert code == 2 and "--batch-size 32 leaves a batch of one sample" in err and not out
    assert cli(*words, "--model", "ioc-mlp(width=8,batch_norm=false)")[0] == 0
