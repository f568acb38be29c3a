"""``python -m cl_nvrm.runs``: which runs are meant, what is shown, what is moved and removed, and what is not."""

import csv
import io
import json
import os
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import asdict, replace
from datetime import datetime, timedelta
from pathlib import Path
from time import process_time

import pytest

from cl_nvrm.report.__main__ import main as report
from cl_nvrm.runs.__main__ import COMMANDS, main
from cl_nvrm.runs.show import LOAD
from cl_nvrm.spec import RunResult, RunSpec
from cl_nvrm.spec.settings import settings
from cl_nvrm.sweep import upkeep
from cl_nvrm.sweep.claim import claim
from cl_nvrm.sweep.contents import STATUSES, contents
from cl_nvrm.sweep.filters import Filter, read, select
from cl_nvrm.sweep.store import Store
from cl_nvrm.sweep.track import Csv

EWC = "ewc:lambda=100,fisher=exact"
BOTH = f"{EWC}+nvrm:variability=0.03,relative=false"
SPEC = RunSpec("naive", "split:tasks=2,model=mlp(width=64,depth=2)", "mnist", "ab", 0, 1, 32, "adam", 1e-3, 0.0)


def result(strategy="naive", *, seed=0, status="done", end=0.5, **changes):
    spec = replace(SPEC, strategy=strategy, seed=seed, **changes)
    accuracy = ((0.9, 0.1), (end, 0.9)) if status == "done" else ()
    about = {"device": "cpu", "commit": "8b03edc"}
    error = None if status == "done" else f"it {status}"
    return RunResult(spec, status, accuracy, provenance=about, train_seconds=2.0, eval_seconds=1.0, error=error)


def begin(store, run, *events):
    """Write a run's log as if these events had happened."""
    for event in events:
        store.run_log(run.id).write(event, settings=asdict(run.spec))


def keep(path, text="x"):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


@pytest.fixture
def store(tmp_path, monkeypatch):
    """Three strategies, one of them on two seeds, and runs that did not finish."""
    monkeypatch.chdir(tmp_path)
    made = Store(Path("reports/runs"))
    made.prepare()
    runs = [result(), result(seed=1, end=0.4), result(EWC, lr=1e-4, end=0.8), result(BOTH, status="diverged")]
    for run in runs:
        made.save(run)
        begin(made, run, "start", "done")
    begin(made, result("si:c=1"), "start", "failed")
    begin(made, result("si:c=2"), "start", "task")
    return made


@pytest.fixture
def runs(capsys):
    """Give a command; return its code, stdout and stderr."""

    def give(*words):
        code = main([str(word) for word in words])
        return code, *capsys.readouterr()

    return give


def meant(*words):
    return [(run.spec["strategy"].partition(":")[0], run.spec["seed"]) for run in select(read(words))]


@contextmanager
def at_work(store, run_id):
    """Hold a run's claim in another process, as a command that trains it."""
    code = (
        "import sys; from pathlib import Path; from cl_nvrm.sweep.claim import claim\n"
        f"with claim(Path({str(store.claim_path(run_id))!r}), wait=True): print('mine', flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", code]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout.readline() == "mine\n"
        try:
            yield
        finally:
            other.stdin.close()


@pytest.mark.parametrize(
    ("words", "count"),
    [
        ((), 6),
        (("strategy=naive",), 2),
        (("strategy=ewc",), 1),
        (("strategy=ewc*",), 2),
        (("strategy=nvrm+ewc",), 1),
        (("strategy=nvrm+ewc:lambda=100",), 1),
        (("strategy=ewc:lambda=7",), 0),
        (("strategy=EWC|naive",), 3),
        (("strategy!=naive",), 4),
        (("lambda=100.0",), 2),
        (("ewc:lambda>=1e2", "lr<1e-3"), 1),
        (("lambda!=7",), 2),  # a run that has none is not meant
        (("variability<0.1",), 1),
        (("relative=no",), 1),
        (("relative!=false",), 0),
        (("lr = 0.0001",), 1),
        (("lr=1e-4|1e-3",), 6),
        (("seed>0",), 1),
        (("batch-size=32", "batch_size>=32"), 6),
        (("benchmark=split:tasks=2",), 6),
        (("benchmark=sp*",), 6),
        (("benchmark=permuted*",), 0),
        (("model=mlp",), 6),
        (("width=64", "mlp:depth<3"), 6),
        (("dataset=MNIST",), 6),
        (("status=finished",), 3),
        (("status=done|diverged",), 4),
        (("status=fail*|stopped",), 2),
        (("ACC>66",), 2),
        (("bwt<-39", "base-task=50"), 1),
        (("weights=yes",), 0),
        (("device=cpu", "commit=8b*"), 4),
        (("since=1h",), 6),
        (("until=1h",), 0),
        (("until=2999-01-01", "since=2000-01-01"), 6),
    ],
)
def test_filters_choose_the_runs_for_which_all_hold(store, words, count):
    assert len(meant(*words)) == count


@pytest.mark.parametrize(
    ("word", "says"),
    [
        ("lamda=3", "Did you mean lambda"),
        ("nvrm:lambda=3", "No run here has 'nvrm:lambda'"),
        ("status=finishd", "there are finished, diverged, failed, under way"),
        ("lr<fast", "write lr=fast"),
        ("status<3", "write status=3"),
        ("since=yesterday", "write since=2026-10-01"),
        ("since>7d", "with ="),
        ("since=999999w", "is no time"),
        ("until=9999-12-31", "is no time"),
        ("lr=", "is no filter"),
        ("lr", "must be quoted: 'lr<1'"),
        ("elsewhere", "There is no folder elsewhere"),
        ("ffff", "There is no run ffff in reports/runs"),
        ("x" * 5000, "There is no folder"),
    ],
)
def test_a_word_that_cannot_be_meant_is_one_line(store, runs, word, says):
    code, out, err = runs("list", word)
    assert code == 2 and not out and says in err and len(err.splitlines()) == 1


def test_a_folder_is_one_whatever_its_name(store, runs):
    (Path("lr=3") / "abcd").mkdir(parents=True)
    assert read(["lr=3", "lr=3/abcd", "lr=4"]).folders == (Path("lr=3"), Path("lr=3/abcd"))
    assert runs("lr=3")[0] == 0
    assert "did you mean list" in runs("lst")[2]


def test_days_begin_and_end_where_a_person_says(store):
    noon = datetime(2026, 10, 1, 12).astimezone()
    run = select(read([]))[0]
    run.when = noon
    for word, holds in {
        "since=2026-10-01": True, "until=2026-10-01": True, "until=2026-09-30": False, "since=2026-10-02": False,
        "until=2026-10-01T11:00": False, "since=2026-10-01T11:00": True,
    }.items():  # fmt: skip
        assert Filter.parse(word).matches(run) is holds, word
    run.when = datetime.now().astimezone() - timedelta(days=8)
    assert Filter.parse("until=1w").matches(run) and not Filter.parse("since=7d").matches(run)


def test_settings_are_read_without_their_plug_ins():
    told = settings(asdict(replace(SPEC, strategy="not-here:a=1e-3,b=true,c=x(y=2)+other")))
    assert (told["not-here:a"], told["not-here:b"], told["not-here:c"], told["x:y"]) == (1e-3, True, "x(y=2)", 2)


def test_every_status_is_told(store):
    stray, other, fresh = result("l1:lambda=1"), result("l1:lambda=2"), result("l1:lambda=3")
    keep(store.weights_path(stray.id))
    keep(store.folder / f"{other.id}.json", "{")
    keep(store.folder / "mine.json", "{}")
    begin(store, fresh, "start")
    with at_work(store, fresh.id):
        told = {run.id: run.status for run in contents(store)}
    assert told[stray.id] == "orphaned" and told[other.id] == "damaged" and told["mine"] == "foreign"
    assert told[fresh.id] == "under way" and set(told.values()) == set(STATUSES)
    copied = keep(store.folder / f"{stray.id}.json", store.folder.joinpath(f"{result().id}.json").read_text())
    assert {run.path: run.status for run in contents(store)}[copied] == "foreign"


def test_the_time_of_a_run_is_that_of_its_log_which_copies_keep(store):
    first = contents(store)[0]
    os.utime(first.path, (0, 0))
    assert contents(store)[0].when.year > 2000
    store.run_log(first.id).path.unlink()
    assert contents(store)[0].when.year == 1970


def test_the_list_shows_what_differs_and_says_once_what_does_not(store, runs):
    code, out, err = runs("strategy=naive|ewc*", "status=finished")
    lines = out.splitlines()
    assert code == 0 and not err and len(lines) == 6
    assert lines[0] == "all: split, mnist, epochs 1, batch 32, adam"
    assert lines[1].split() == ["run", "when", "strategy", "lr", "seed", "ACC", "BWT", "forgetting", "seconds"]
    ewc = next(line.split() for line in lines if " ewc " in line)
    assert ewc[0] == result(EWC, lr=1e-4).id[:8] and ewc[3:] == ["ewc", "0.0001", "0", "85.0", "-10.0", "10.0", "3"]
    assert lines[-1].startswith("3 runs, ")
    keep(store.folder / "mine.json", "{}")
    out = runs()[1]
    assert "1 diverged, 1 failed, 1 stopped, 1 foreign" in out and "\nmine " in out
    assert out.startswith("all: split, mnist, epochs 1, batch 32, adam\n")  # of those that say so


def test_the_list_fits_eighty_columns_and_is_a_line_a_run_for_programs(store, runs, monkeypatch):
    assert len(runs()[1].splitlines()) == 9
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "80")
    out = runs()[1]
    assert max(len(line) for line in out.replace("\x1b[0m", "").replace("\x1b[1m", "").splitlines()) <= 90
    assert all(run.id[:8] in out for run in contents(store)) and "diverged" in out and "95.0" not in out


def test_the_list_is_sorted_by_any_key_and_cut(store, runs):
    told = json.loads(runs("status=finished", "--format", "json", "--sort", "acc")[1])
    assert [run["acc"] for run in told] == sorted(run["acc"] for run in told) and len(told) == 3
    assert told[-1]["spec"]["strategy"] == EWC and told[-1]["settings"]["ewc:lambda"] == 100
    (last,) = json.loads(runs("status=finished", "--format", "json", "--sort", "ACC", "--last", 1)[1])
    assert last == told[-1]
    assert "commit" in runs("--sort", "commit")[1] and runs("--sort", "nonsense")[0] == 2
    assert runs("seed>7") == (0, "", "note: no run is meant by that; cl-nvrm runs --help says what to write\n")


def test_a_run_is_shown_by_the_first_digits_of_its_id(store, runs):
    run = result(BOTH, status="diverged")
    code, out, _ = runs("show", run.id[:6])
    assert code == 0 and out.startswith(f"run {run.id}: diverged")
    for text in ("lambda = 100", "it diverged", "commit", f"reports/runs/{run.id}.json", "--keep-weights"):
        assert text in out, text
    (told,) = json.loads(runs("show", run.id, "--format", "json")[1])
    assert RunResult.from_json(json.dumps(told["result"])) == run and len(told["files"]) == 2
    text = runs("show", "status=failed")[1]
    assert "c = 1" in text and "the same command tries it again" in text
    for number in range(40):
        store.save(result(seed=100 + number, end=0.1))
    begun = max({run.id[:1] for run in contents(store)}, key=lambda d: sum(r.id[:1] == d for r in contents(store)))
    alike = sorted(run.id for run in contents(store) if run.id[:1] == begun)
    for run_id in alike:
        keep(store.folder / f"{alike[0][:4]}{run_id[4:]}.json")
    assert "runs begin with" in runs("show", alike[0][:4])[2]
    assert runs("show")[0] == 2


def test_what_show_says_of_weights_loads_them(cli, capsys):
    import torch

    code, _, err = cli("--benchmark", "toy:tasks=2,samples=64", "--epochs", 1, "--jobs", 1, "--keep-weights",
                       "--quiet", "--no-plots", "--out", "kept")  # fmt: skip
    assert code == 0, err
    (run,) = contents(Store(Path("kept")))
    assert run.last_event["event"] == "done" and run.spec == asdict(run.result.spec)
    run.path.unlink()  # its log alone then tells its settings
    (again,) = contents(Store(Path("kept")))
    assert again.status == "orphaned" and again.spec == run.spec
    run.store.save(run.result)
    assert main(["show", run.id[:8], "kept"]) == 0
    shown = capsys.readouterr().out
    code = "\n".join(line[2:] for line in shown.partition("\nweights\n")[2].splitlines())
    assert code == LOAD.format(folder="kept", run=run.id).rstrip()
    names = {}
    exec(code, names)
    assert torch.count_nonzero(names["model"].state_dict()["heads.0.weight"]) and names["result"] == run.result


def test_runs_are_compared_side_by_side_in_the_order_given(store, runs):
    ids = [result(EWC, lr=1e-4, end=0.8).id, result().id]
    code, out, _ = runs("compare", *ids)
    rows = {line.split()[0]: line.split()[1:] for line in out.splitlines()[1:]}
    assert code == 0 and out.split()[:2] == [run_id[:8] for run_id in ids]
    assert rows["strategy"] == ["ewc", "naive"] and rows["lr"] == ["0.0001", "0.001"]
    assert rows["ACC"] == ["85.00", "70.00", "-15.00"] and rows["BWT"] == ["-10.00", "-40.00", "-30.00"]
    assert "dataset" not in rows and "ewc:lambda" in rows
    assert runs("compare", ids[0])[0] == 2
    told = json.loads(runs("compare", *ids, "--format", "json")[1])
    assert told["differing"]["seed" if "seed" in told["differing"] else "lr"] == [1e-4, 1e-3]


def test_what_filters_choose_is_compared_by_setting(store, runs):
    for seed in range(6):
        store.save(result("nvrm", seed=seed, end=0.6 + 0.01 * seed))
        store.save(result(seed=seed, end=0.5))
    code, out, _ = runs("compare", "strategy=naive|nvrm", "status=finished")
    assert code == 0 and "nvrm - naive" in out and "Results" in out and " on mnist" in out
    (section,) = json.loads(runs("compare", "strategy=naive|nvrm", "--format", "json")[1])
    assert any(row["metric"] == "ACC" and row["found"]["n"] == 6 for row in section["comparisons"])


def test_exports_are_tidy(store, runs):
    rows = list(csv.DictReader(io.StringIO(runs("export", "status=finished")[1])))
    assert len(rows) == 3 and {row["ewc:lambda"] for row in rows} == {"", "100"}
    assert sorted(float(row["acc"]) for row in rows) == pytest.approx([65.0, 70.0, 85.0])
    told = json.loads(runs("export", "lambda=100", "status=finished", "--format", "json", "--rows", "accuracy")[1])
    assert [(row["after_task"], row["task"], row["accuracy"]) for row in told] == [
        (1, 1, 90.0), (1, 2, 10.0), (2, 1, 80.0), (2, 2, 90.0)
    ]  # fmt: skip
    store.save(replace(result(seed=9), trace=((0, 5, (0.5,)),), curves={"test accuracy": (0.1, 0.2)}))
    (traced,) = json.loads(runs("export", "seed=9", "--format", "json", "--rows", "trace")[1])
    assert (traced["during_task"], traced["iteration"], traced["accuracy"]) == (1, 5, 50.0)
    assert runs("export", "seed=9", "--rows", "curve", "--out", "x.csv")[:2] == (0, "")
    assert [row["value"] for row in csv.DictReader(io.StringIO(Path("x.csv").read_text()))] == ["10.0", "20.0"]
    assert runs("export", "--format", "parquet")[0] == 2 and runs("export", "--out", "no/x.csv")[0] == 2
    assert runs("export", "seed=77", "--format", "json")[1] == "[]\n"


def belongings(store, run):
    """Give a run one file of each kind; return them with the files of others, which must stay."""
    of = {
        store.folder / f"{run.id}.json", store.run_log(run.id).path, store.folder / f"{run.id}.failed.txt",
        store.weights_path(run.id), store.checkpoint_path(run.id), store.checkpoint_path(f"{run.id}-0123abcd"),
        store.folder / "perturbed" / f"{run.id}-0123abcd.json", store.folder / f".new-{run.id}-xyz",
        store.folder / "tensorboard" / run.id / "events.out.tfevents.1", store.folder / "weights" / f"{run.id}.new",
        store.folder / "wandb" / f"offline-run-20261001-{run.id}" / "files" / "x.json",
    }  # fmt: skip
    for path in of:
        path if path.exists() else keep(path)
    others = {keep(store.folder / name) for name in ("notes.md", f"{run.id}.damaged", f"frontier/{run.id}.json")}
    others |= {keep(store.folder / "tuning" / "runs" / f"{run.id}.json"), keep(store.folder / "figures" / "a.png")}
    Csv(store.folder).replace(set(), [[run.id, "a", "0", "x", "0", "1", "2"], ["other", "a", "0", "x", "0", "1", "2"]])
    return of, others


def files(folder):
    return {path for path in folder.rglob("*") if path.is_file()}


def test_a_run_is_deleted_with_all_that_belongs_to_it_and_nothing_else(store, runs):
    run = result(EWC, lr=1e-4, end=0.8)
    of, others = belongings(store, run)
    before = files(store.folder)
    code, out, _ = runs("delete", run.id[:8], "--dry-run")
    assert code == 0 and "would delete 1 run with 11 files" in out and files(store.folder) == before
    code, out, _ = runs("delete", run.id[:8], "--yes")
    assert code == 0 and out.splitlines()[-1] == "deleted 1 run" and run.id[:8] in out
    assert files(store.folder) == before - of and others <= before
    assert [row[0] for row in Csv(store.folder).rows([run.id, "other"])] == ["other"]
    assert not (store.folder / "tensorboard").exists() and not (store.folder / "checkpoints").exists()


def test_deleting_asks_and_says_first_what(store, runs, monkeypatch):
    before = files(store.folder)
    code, out, err = runs("delete", "strategy=naive")
    assert code == 2 and "2 runs" in out and "--yes" in err and files(store.folder) == before
    for answer, left in (("n\n", 6), ("\n", 6), ("", 6), ("y\n", 4)):
        terminal = io.StringIO(answer)
        terminal.isatty = lambda: True
        monkeypatch.setattr(sys, "stdin", terminal)
        code, out, _ = runs("delete", "strategy=naive")
        assert code == 0 and "Delete 2 runs with 4 files" in out and len(contents(store)) == left
    for words in ((), (store.folder,), ("strategy=naive",)):
        assert runs("delete", *words, "--yes")[0] == 2
    assert len(contents(store)) == 4


def test_what_a_command_is_at_is_left_alone(store, runs):
    taken = result(seed=1)
    before = files(store.folder)
    with at_work(store, taken.id):
        code, out, err = runs("delete", "strategy=naive", "--yes")
        assert code == 1 and "deleted 1 run" in out and f"run {taken.id}" in err
        assert runs("move", taken.id, "--to", "other")[0] == 2 and not Path("other").exists()
        assert runs("delete", taken.id, "--yes")[0] == 2
    assert before - files(store.folder) == {
        store.folder / f"{result().id}.json", store.run_log(result().id).path
    }  # fmt: skip


def test_a_run_that_a_command_took_or_finished_since_it_was_listed_is_left_alone(store):
    listed = select(read(["strategy=naive|si"]))
    with claim(store.claim_path(listed[0].id), wait=True):
        assert upkeep.delete(listed[:1]) == listed[:1]
    stopped = next(run for run in listed if run.status == "stopped")
    store.save(result("si:c=2"))
    assert upkeep.delete([stopped]) == [stopped] == upkeep.move([stopped], Store(Path("other")))
    assert store.get(stopped.id) and store.run_log(stopped.id).read()


def test_runs_that_did_not_finish_can_be_deleted_and_foreign_files_not(store, runs):
    keep(store.folder / "mine.json", "{}")
    code, out, err = runs("delete", "status=failed|stopped|foreign", "--yes")
    assert code == 0 and "deleted 2 runs" in out and "mine.json is left alone" in err
    assert (store.folder / "mine.json").exists() and len(contents(store)) == 5


@pytest.mark.parametrize("linked", [True, False])
def test_a_run_is_moved_with_all_that_belongs_to_it(store, runs, monkeypatch, linked):
    if not linked:

        def elsewhere(*_, **__):
            raise OSError("another disk")

        monkeypatch.setattr(os, "link", elsewhere)
    run = result(EWC, lr=1e-4, end=0.8)
    of, _ = belongings(store, run)
    before, texts = files(store.folder), {path.relative_to(store.folder): path.read_text() for path in of}
    when = next(one.when for one in contents(store) if one.id == run.id)
    code, out, _ = runs("move", run.id, "--to", "new/place")
    assert (code, out) == (0, "moved 1 run to new/place\n") and files(store.folder) == before - of
    to = Store(Path("new/place"))
    moved = {path.relative_to(to.folder): path.read_text() for path in files(to.folder) - {to.folder / "events.csv"}}
    assert moved == texts and contents(to)[0].when == when and to.get(run.id) == run
    assert [row[0] for row in Csv(to.folder).rows([run.id, "other"])] == [run.id]
    assert [row[0] for row in Csv(store.folder).rows([run.id, "other"])] == ["other"]


def test_moving_writes_over_nothing_and_goes_on_after_a_crash(store, runs, monkeypatch):
    to = Store(Path("other"))
    to.prepare()
    to.save(result(end=0.1))
    before = files(Path())
    code, out, err = runs("move", "strategy=naive", "--to", "other")
    assert code == 2 and "is not the same; nothing is moved" in err and files(Path()) == before and not out
    assert runs("move", "strategy=naive", "--to", "other", "--dry-run")[1].endswith("would move nothing\n")
    assert runs("move", "strategy=naive", "--to", store.folder)[0] == 2

    run = result(seed=1, end=0.4)
    forget = upkeep._forget

    def crash(_):
        raise KeyboardInterrupt

    monkeypatch.setattr(upkeep, "_forget", crash)
    assert runs("move", run.id, "--to", "other")[0] == 130
    assert store.get(run.id) == to.get(run.id) == run
    monkeypatch.setattr(upkeep, "_forget", forget)
    assert runs("move", run.id, "--to", "other")[0] == 0
    assert store.get(run.id) is None and to.get(run.id) == run


def test_a_clean_folder_passes_the_check(store, runs):
    begin(store, result("si:c=3"), "start", "task")
    import torch
    from safetensors.torch import save_file

    save_file({"a": torch.zeros(1)}, keep(store.checkpoint_path(result("si:c=3").id)), metadata={"json": "{}"})
    save_file({"a": torch.zeros(1)}, keep(store.weights_path(result().id)), metadata={"run": result().id})
    keep(store.folder / "notes.md")
    assert runs("check") == (0, "nothing is wrong in reports/runs\n", "")
    keep(store.folder / "weights" / "mine.txt")
    assert runs("check")[0] == 1


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("{run}.json", "Expecting value"),
        ("{done}.damaged", "set aside"),
        ("mine.json", "Expecting value"),
        ("checkpoints/{run}.safetensors", "orphaned"),
        ("checkpoints/{done}.safetensors", "needs no checkpoint"),
        ("checkpoints/{done}-0123abcd.safetensors", "needs no checkpoint"),
        ("checkpoints/{stopped}.safetensors", "damaged"),
        ("weights/{run}.safetensors", "orphaned"),
        ("weights/{done}.safetensors", "damaged"),
        ("weights/{done}.new", "killed"),
        (".new-{done}-abc", "killed"),
        ("perturbed/{run}-0123abcd.json", "orphaned"),
        ("weights/model.bin", "foreign"),
        ("events/x.jsonl", "foreign"),
    ],
)
def test_the_check_names_what_is_wrong(store, runs, name, says):
    ids = {"run": result("l1").id, "done": result().id, "stopped": result("si:c=2").id}
    path = keep(store.folder / name.format(**ids))
    code, out, _ = runs("check")
    assert code == 1 and out.startswith(f"{path}: ") and says in out and "1 problem in" in out
    assert json.loads(runs("check", "--format", "json")[1])[0]["path"] == str(path)


def test_weights_of_another_run_are_named_and_files_of_a_run_under_way_are_not(store, runs):
    import torch
    from safetensors.torch import save_file

    save_file({"a": torch.zeros(1)}, keep(store.weights_path(result().id)), metadata={"run": "another"})
    assert "it holds the weights of run another" in runs("check")[1]
    store.weights_path(result().id).unlink()
    keep(store.folder / "checkpoints" / f"{result().id}.new")
    with at_work(store, result().id):
        assert runs("check")[0] == 0
    assert runs("check", "seed=0")[0] == 2


def test_disk_use_is_told_by_kind(store, runs):
    keep(store.weights_path(result().id), "x" * 5_000_000)
    keep(store.folder / "figures" / "a.png", "x" * 1000)
    told = json.loads(runs("disk", "--format", "json")[1])
    kinds = {each["kind"]: each["bytes"] for each in told["kinds"]}
    assert kinds["weights"] == 5_000_000 and told["largest"][0]["id"] == result().id and told["other_bytes"] == 1000
    assert sum(kinds.values()) + 1000 == sum(path.stat().st_size for path in files(store.folder))
    out = runs("disk", "strategy=naive")[1]
    assert "5.0 MB" in out and "figures" not in out and "all of 2 runs" in out


def test_the_report_takes_the_same_filters(store, capsys):
    for seed in range(3):
        store.save(result(EWC, seed=seed))
    assert report(["strategy=ewc*", "lr=1e-3", "status=finished", "--out", "page"]) == 0
    rows = csv.DictReader(io.StringIO(Path("page/tables/metrics.csv").read_text()))
    assert {row["strategy"] for row in rows} == {EWC}
    assert report(["reports/runs", "seed=44", "--out", "other"]) == 2
    assert "There are no runs with seed=44 in reports/runs" in capsys.readouterr().err and not Path("other").exists()
    assert report(["lamda=44"]) == 2 and "Did you mean lambda" in capsys.readouterr().err


def test_so_does_perturb(store, monkeypatch, capsys):
    from cl_nvrm.perturb import main as perturb
    from cl_nvrm.sweep.probes import runs_of

    one = replace(result(seed=5), accuracy=((0.9,),))
    for seed in (5, 6):
        store.save(replace(one, spec=replace(one.spec, seed=seed)))
        keep(store.weights_path(replace(one.spec, seed=seed).id))
    assert [run.spec.seed for run in runs_of(store, [], read(["seed>5"]))] == [6]
    assert {run.spec.seed for run in runs_of(store, [])} == {5, 6}
    assert perturb(["seed=3"]) == 2 and "No weights of runs with seed=3" in capsys.readouterr().err
    Path("other").mkdir()
    assert perturb(["other", "reports/runs"]) == 2


def test_a_thousand_runs_are_listed_in_two_seconds(tmp_path, capsys):
    folder = tmp_path / "runs"
    folder.mkdir()
    for number in range(1000):
        run = result(BOTH if number % 2 else "naive", seed=number // 2)
        (folder / f"{run.id}.json").write_text(run.to_json())
    assert main(["list", str(folder), "seed=0"]) == 0  # imports
    start = process_time()
    assert main(["list", str(folder), "lr<1", "strategy=naive|ewc*", "ACC>1"]) == 0
    assert process_time() - start < 2
    assert len(capsys.readouterr().out.splitlines()) > 1000


def test_no_command_but_a_comparison_of_settings_needs_torch(store):
    words = {"show": ["strategy=naive"], "delete": ["seed=1", "--dry-run"], "compare": [result().id, result(seed=1).id],
             "move": ["seed=1", "--to", "x", "--dry-run"]}  # fmt: skip
    keep(store.weights_path(result().id))
    code = (
        "import sys; from cl_nvrm.runs.__main__ import main\n"
        f"for words in {[[name, *words.get(name, [])] for name in COMMANDS]!r}: main(words)\n"
        "print(sorted({'torch', 'pandas', 'scipy', 'matplotlib', 'avalanche'} & set(sys.modules)))"
    )
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parent.parent)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert done.stdout.splitlines()[-1] == "[]", done.stderr
