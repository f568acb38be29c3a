import csv
import json
import sys

import pytest

TOY = ("--benchmark", "toy", "--jobs", 1, "--no-plots", "--quiet", "--format", "json")


def told(tmp_path):
    with (tmp_path / "reports/runs/events.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_csv_has_every_number_of_the_runs_once(cli, tmp_path):
    code, out, err = cli(*TOY, "--track", "csv", "--trials", 2)
    assert code == 0, err
    rows = told(tmp_path)
    for run in json.loads(out)["runs"]:
        for t, row in enumerate(run["accuracy"], 1):
            for k, value in enumerate(row, 1):
                (one,) = [
                    r for r in rows if (r["run"], r["name"], r["task"]) == (run["id"], f"accuracy/task {k}", str(t))
                ]
                assert float(one["value"]) == value and float(one["time"]) > 1e9
    cli(*TOY, "--track", "csv", "--trials", 1, "--fresh")
    assert len(told(tmp_path)) == len(rows)


def test_tensorboard_reads_what_was_written(cli, tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    code, out, err = cli(*TOY, "--track", "tensorboard")
    assert code == 0, err
    (run,) = json.loads(out)["runs"]
    read = EventAccumulator(str(tmp_path / "reports/runs/tensorboard" / run["id"]))
    read.Reload()
    points = read.Scalars("accuracy/task 1")
    assert [p.step for p in points] == [1, 2, 3]
    assert [p.value for p in points] == pytest.approx(run["base_task"])
    assert cli(*TOY, "--track", "tensorboard", "--fresh")[0] == 0
    again = EventAccumulator(str(tmp_path / "reports/runs/tensorboard" / run["id"]))
    again.Reload()
    assert [p.step for p in again.Scalars("accuracy/task 1")] == [1, 2, 3]


def test_wandb_gets_settings_and_steps(cli, monkeypatch):
    logged = []

    class Run:
        def log(self, values, step):
            logged.append((step, values))

        def finish(self):
            logged.append("finished")

    class Fake:
        class api:
            api_key = "a key"

        @staticmethod
        def init(**about):
            logged.append(about)
            return Run()

    monkeypatch.setitem(sys.modules, "wandb", Fake)
    code, out, err = cli(*TOY, "--track", "wandb")
    assert code == 0, err
    (run,) = json.loads(out)["runs"]
    about, *steps, end = logged
    assert about["id"] == run["id"] and about["config"]["strategy"] == "naive" and end == "finished"
    assert [step for step, _ in steps] == [1, 2, 3]
    assert [values["accuracy/task 1"] for _, values in steps] == run["base_task"]


@pytest.mark.parametrize(("kind", "package"), [("wandb", "wandb"), ("tensorboard", "torch.utils.tensorboard")])
def test_an_absent_package_says_how_to_get_it_before_anything_is_trained(cli, monkeypatch, tmp_path, kind, package):
    monkeypatch.setitem(sys.modules, package, None)
    code, _, err = cli(*TOY, "--track", kind)
    assert code == 2 and f"pip install 'cl_nvrm[{kind}]'" in err
    assert not list(tmp_path.rglob("*.json"))


def test_wandb_without_a_login_is_said_before_anything_is_trained(cli, monkeypatch, tmp_path):
    class Fake:
        class api:
            api_key = None

    monkeypatch.setitem(sys.modules, "wandb", Fake)
    monkeypatch.delenv("WANDB_MODE", raising=False)
    code, _, err = cli(*TOY, "--track", "wandb")
    assert code == 2 and "wandb login" in err and not list(tmp_path.rglob("*.json"))


def test_a_tracker_that_fails_is_named_once_and_stops_nothing(cli, monkeypatch):
    from cl_nvrm.sweep import track

    def fail(*_):
        raise ConnectionError("gone")

    monkeypatch.setattr(track.Csv, "write", fail)
    code, out, err = cli(*TOY, "--track", "csv", "--trials", 3)
    assert code == 0 and len(json.loads(out)["runs"]) == 3
    assert err.count("--track csv: ConnectionError: gone") == 1


def test_runs_that_were_stored_before_are_handed_on_too(cli, tmp_path):
    assert cli(*TOY, "--trials", 2)[0] == 0
    assert cli(*TOY, "--trials", 2, "--track", "csv")[0] == 0
    rows = told(tmp_path)
    assert len({row["run"] for row in rows}) == 2
    assert cli(*TOY, "--trials", 2, "--track", "csv")[0] == 0
    assert told(tmp_path) == rows


def test_two_commands_may_write_one_csv(tmp_path, toy_spec):
    from dataclasses import replace
    from threading import Thread

    from cl_nvrm.spec import RunResult
    from cl_nvrm.sweep.track import Csv

    results = [RunResult(replace(toy_spec(), seed=s), "done", ((0.5,),), losses=((0.1,),)) for s in range(40)]
    threads = [
        Thread(target=lambda part=part: [Csv(tmp_path).write(r, "x", []) for r in part])
        for part in (results[::2], results[1::2])
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(Csv(tmp_path).knows(r.id) for r in results)
    assert [p.name for p in tmp_path.iterdir()] == ["events.csv"]
