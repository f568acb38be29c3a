import json
import math
import os
import re
import signal
import subprocess
import sys
import time
from copy import deepcopy
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cl_nvrm.errors import UserError
from cl_nvrm.spec import RunResult, RunSpec, derived_seed
from cl_nvrm.sweep.claim import claim
from cl_nvrm.sweep.store import Store

SPEC = RunSpec("naive", "toy:tasks=3", "synthetic", "", 0, 1, 32, "adam", 1e-3, 0.0)


def result(seed=0, **changes):
    values = {"accuracy": ((0.5, 0.25), (0.125, 1.0)), "losses": ((0.1,), (0.2,))} | changes
    return RunResult(replace(SPEC, seed=seed), values.pop("status", "done"), **values)


def test_a_result_comes_back_as_it_was(tmp_path):
    store = Store(tmp_path / "new" / "folder")
    store.prepare()
    kept = result(diagnostics={"ewc": [{"importance_sum": 1.5}]}, train_seconds=1.25)
    store.save(kept)
    assert store.get(kept.id) == kept
    assert store.load() == ([kept], {})


@given(st.lists(st.lists(st.floats(0, 1), min_size=1, max_size=4), max_size=4))
def test_json_keeps_every_bit_of_the_accuracies(rows):
    kept = result(accuracy=tuple(map(tuple, rows)), status="diverged")
    assert RunResult.from_json(kept.to_json()) == kept


def test_the_id_depends_on_every_field_of_the_spec():
    changed = {
        "strategy": "ewc", "benchmark": "toy", "dataset": "mnist", "dataset_sha256": "0", "seed": 1, "epochs": 2,
        "batch_size": 1, "optimizer": "sgd", "lr": 0.1, "weight_decay": 0.1,
        "eval_every": 10, "first_tasks": 2, "chosen": "by a search",
        "schedule": "cosine", "precision": "bfloat16", "channels_last": True, "compiled": True,
        "iterations": 7,
    }  # fmt: skip
    ids = {SPEC.id, *(replace(SPEC, **{name: value}).id for name, value in changed.items())}
    assert len(ids) == 1 + len(changed) == 1 + len(RunSpec.__dataclass_fields__)


def test_a_field_added_later_leaves_the_ids_of_runs_made_before():
    assert SPEC.id == "96aa96ed44bba433"
    old = json.loads(result().to_json())
    for name in ("initial", "trace", "curves"):
        del old[name]
    for name in (
        "eval_every",
        "first_tasks",
        "chosen",
        "schedule",
        "precision",
        "channels_last",
        "compiled",
        "iterations",
    ):
        del old["spec"][name]
    assert RunResult.from_json(json.dumps(old)) == result()


def test_damaged_and_foreign_files_are_named_and_skipped(tmp_path):
    store = Store(tmp_path)
    store.save(result())
    whole = result().to_json()
    (tmp_path / "cut.json").write_text(whole[: len(whole) // 2])
    (tmp_path / "foreign.json").write_text('{"schema": 99}')
    (tmp_path / "list.json").write_text("[1, 2]")
    (tmp_path / "field.json").write_text(whole.replace('"losses"', '"lossez"'))
    (tmp_path / "altered.json").write_text(whole.replace('"lr": 0.001', '"lr": 0.1'))
    (tmp_path / "null.json").write_text(re.sub(r'"accuracy": \[.*?\n \]', '"accuracy": null', whole, flags=re.S))
    (tmp_path / "ragged.json").write_text(whole.replace("0.25\n", "0.25, 0.5\n"))
    (tmp_path / "bare.json").write_text(whole.replace('"provenance": {}', '"provenance": null'))
    (tmp_path / "binary.json").write_bytes(b"\xff\x00")
    results, damaged = store.load()
    assert len(results) == 1
    assert {path.stem for path in damaged} == {
        "cut",
        "foreign",
        "list",
        "field",
        "altered",
        "binary",
        "null",
        "ragged",
        "bare",
    }
    assert store.get("cut") is None


WHOLE = json.loads(result(provenance={"gradient_passes": 4}, curves={"test accuracy": (0.5,)}).to_json())


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (("accuracy", 0, 0), None),
        (("accuracy", 0, 0), "0.5"),
        (("accuracy", 0, 0), True),
        (("accuracy", 0, 0), math.nan),
        (("accuracy", 0, 0), 1.5),
        (("accuracy", 0, 0), [0.5]),
        (("accuracy", 1), [0.5, 0.5, 0.5]),
        (("accuracy",), [[0.5, 0.5]]),
        (("losses", 0, 0), None),
        (("losses", 0), 0.1),
        (("losses", 0, 0), math.inf),
        (("curves", "test accuracy"), [2.0]),
        (("curves", "test accuracy"), "half"),
        (("initial",), [0.1]),
        (("initial",), [None, 0.1]),
        (("trace",), [[0, 1]]),
        (("trace",), [[7, 1, [0.5]]]),
        (("train_seconds",), "1"),
        (("train_seconds",), -1.0),
        (("error",), 3),
        (("status",), "finished"),
        (("spec", "seed"), "0"),
        (("spec", "epochs"), 1.5),
        (("spec", "compiled"), 1),
        (("spec", "colour"), "red"),
        (("provenance", "gradient_passes"), "four"),
        (("provenance", "gradient_passes"), math.nan),
        (("diagnostics",), []),
        (("taste",), "sweet"),
    ],
    ids=lambda of: ".".join(map(str, of)) if isinstance(of, tuple) else repr(of),
)
def test_what_no_run_can_measure_is_damaged_and_said_in_a_line(place, value, tmp_path):
    values = deepcopy(WHOLE)
    inner = values
    for name in place[:-1]:
        inner = inner[name]
    inner[place[-1]] = value
    path = tmp_path / f"{WHOLE['id']}.json"
    path.write_text(json.dumps(values))
    results, damaged = Store(tmp_path).load()
    assert not results and Store(tmp_path).get(WHOLE["id"]) is None
    assert len(damaged[path].splitlines()) == 1


@pytest.mark.parametrize(
    "text", ["[" * 100_000, '{"schema": 1, "schema": 1}', "9" * 5000, '{"schema": 1, "id": 1e999}', ""]
)
def test_texts_that_no_writer_of_json_makes_are_damaged(text, tmp_path):
    (tmp_path / "a.json").write_text(text)
    results, damaged = Store(tmp_path).load()
    assert not results and [path.name for path in damaged] == ["a.json"]


def test_a_run_in_two_files_counts_once_and_under_its_own_name_only(tmp_path):
    store = Store(tmp_path)
    first, second = result(), result(seed=1)
    copy = tmp_path / f"{second.id}.json"
    copy.write_text(store.save(first).read_text())
    results, damaged = store.load()
    assert results == [first] and first.id in damaged[copy]
    assert store.get(second.id) is None


def test_what_is_no_file_stops_nothing(tmp_path):
    store = Store(tmp_path)
    store.save(result())
    (tmp_path / "folder.json").mkdir()
    os.mkfifo(tmp_path / "pipe.json")
    (tmp_path / "nowhere.json").symlink_to(tmp_path / "gone")
    results, damaged = store.load()
    assert results == [result()] and {path.stem for path in damaged} == {"folder", "pipe", "nowhere"}


def test_a_damaged_or_foreign_file_under_a_runs_name_is_kept_beside_the_new_result(tmp_path, capsys):
    store = Store(tmp_path)
    path = tmp_path / f"{result().id}.json"
    path.write_text(result(seed=1).to_json())
    store.save(result())
    assert store.load() == ([result()], {})
    assert path.with_suffix(".damaged").read_text() == result(seed=1).to_json()
    assert path.with_suffix(".damaged").name in capsys.readouterr().err


def test_a_process_killed_while_saving_leaves_whole_files_only(tmp_path):
    code = f"""
import itertools
from dataclasses import replace
from pathlib import Path
from cl_nvrm.spec import RunResult, RunSpec
from cl_nvrm.sweep.store import Store

spec = RunSpec("naive", "toy", "x", "", 0, 1, 32, "adam", 1e-3, 0.0)
rows = tuple((0.1,) * 500 for _ in range(500))
for seed in itertools.count():
    Store(Path({str(tmp_path)!r})).save(RunResult(replace(spec, seed=seed % 3), "done", rows))
"""
    process = subprocess.Popen([sys.executable, "-c", code])
    deadline = time.monotonic() + 60
    while len(list(tmp_path.glob("*.json"))) < 3 and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    results, damaged = Store(tmp_path).load()
    assert len(results) == 3 and not damaged


def test_a_failed_write_leaves_the_old_result(tmp_path, monkeypatch):
    store = Store(tmp_path)
    store.save(result())

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UserError, match="No space left"):
        store.save(result(train_seconds=9.0))
    assert store.get(result().id) == result()
    assert len(list(tmp_path.iterdir())) == 1


def test_a_folder_that_cannot_be_written_is_said_before_anything_runs(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="--out"):
        Store(tmp_path / "file" / "runs").prepare()


def test_derived_seeds_are_stable_and_distinct():
    assert derived_seed(0, "init") == 5178188355558464636
    purposes = [("init",), ("batches",), ("strategy", "nvrm"), ("permutation", 0), ("permutation", 1)]
    seeds = {derived_seed(seed, *purpose) for seed in range(50) for purpose in purposes}
    assert len(seeds) == 250 and all(0 <= s < 2**63 for s in seeds)


def test_files_are_json_a_person_can_read(tmp_path):
    path = Store(tmp_path).save(result())
    values = json.loads(path.read_text())
    assert values["schema"] == 1 and values["id"] == path.stem and values["spec"]["strategy"] == "naive"


def test_a_folder_of_checkpoints_that_a_killed_process_left_empty_goes(tmp_path):
    store = Store(tmp_path)
    store.save(result())
    folder = store.checkpoint_path(result().id).parent
    folder.mkdir()
    store.clean()
    assert not folder.exists()
    folder.mkdir()
    (folder / "somebody-elses.claim").touch()
    with claim(store.claim_path("other"), wait=True):
        store.clean()
        assert store.claim_path("other").exists()
