"""Kept weights come back bit for bit, into the network they belong to and no other; what can be asked of them."""

import json

import pytest
import torch

from cl_nvrm.errors import UserError
from cl_nvrm.perturb import main as perturb
from cl_nvrm.sweep.probes import Questions, ask, open_run, stored_answers
from cl_nvrm.sweep.store import Store
from cl_nvrm.training import weights
from cl_nvrm.training.weights import fingerprint

COMMAND = (
    "--benchmark", "noisy-mnist:subset=200,model=mlp(width=16,depth=1)", "--data", "digits", "--epochs", 2, "--quiet",
    "--jobs", 1, "--out", "runs", "--format", "json", "--no-plots",
)  # fmt: skip


@pytest.fixture
def store(cli):
    code, out, err = cli(*COMMAND, "--keep-weights", "--trials", 2)
    assert code == 0, err
    from pathlib import Path

    return Store(Path("runs")), [run["id"] for run in json.loads(out)["runs"]]


def test_a_models_state_survives_with_its_buffers(tmp_path):
    def model():
        return torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4))

    one, other = model(), model()
    one(torch.randn(9, 3))
    weights.save(tmp_path / "w" / "a.safetensors", one, "run")
    weights.load(tmp_path / "w" / "a.safetensors", other, "run")
    assert fingerprint(one) == fingerprint(other)
    assert [path.name for path in (tmp_path / "w").iterdir()] == ["a.safetensors"]


@pytest.mark.parametrize(
    ("other", "says"),
    [
        (torch.nn.Linear(3, 5), r"'weight' is \(4, 3\), the model's is \(5, 3\)"),
        (torch.nn.Sequential(torch.nn.Linear(3, 4)), r"'0.weight' is none"),
        (torch.nn.Linear(3, 4, bias=False), r"'bias' is \(4,\), the model's is none"),
    ],
)
def test_another_models_weights_are_refused_by_key(tmp_path, other, says):
    path = tmp_path / "a.safetensors"
    weights.save(path, torch.nn.Linear(3, 4), "run")
    before = fingerprint(other)
    with pytest.raises(UserError, match=f"a.safetensors.*{says}"):
        weights.load(path, other, "run")
    assert fingerprint(other) == before


def test_weights_of_another_run_and_damaged_files_are_refused(tmp_path):
    path, model = tmp_path / "a.safetensors", torch.nn.Linear(3, 4)
    weights.save(path, model, "one")
    with pytest.raises(UserError, match="run one, not of other"):
        weights.load(path, model, "other")
    path.write_bytes(path.read_bytes()[:50])
    with pytest.raises(UserError, match=r"a\.safetensors cannot be read"):
        weights.load(path, model, "one")


def test_a_stored_run_opens_as_the_network_it_ended_as(store):
    folder, (run_id, _) = store
    result = folder.get(run_id)
    benchmark, model = open_run(folder, result, None, "cpu")
    assert fingerprint(model) == result.provenance["weights_sha256"]
    assert len(benchmark.train) == 1


def test_asking_for_weights_later_trains_again_and_only_what_has_none(cli):
    arguments = [*COMMAND]
    cli(*arguments)
    code, _, _ = cli(*arguments, "--keep-weights")
    folder = Store(__import__("pathlib").Path("runs"))
    (path,) = (folder.folder / "weights").iterdir()
    assert code == 0
    written = path.stat().st_mtime_ns
    cli(*arguments, "--keep-weights")
    assert path.stat().st_mtime_ns == written


def test_answers_are_kept_and_need_no_weights_any_more(store):
    folder, (run_id, _) = store
    result, questions = folder.get(run_id), Questions((0.0, 0.05, 0.3), draws=3, b=0.05)
    assert stored_answers(folder, result, questions) is None
    answers = ask(folder, result, questions)
    assert answers.curve[0].accuracies == (result.accuracy[0][0],)
    assert answers.curve[-1].accuracy < answers.curve[0].accuracy
    assert answers.training["bound"]["vacuous"] and "vacuous" in answers.training["bound"]["sentence"]
    folder.weights_path(run_id).unlink()
    assert ask(folder, result, questions) == answers
    with pytest.raises(UserError, match="--keep-weights"):
        ask(folder, result, Questions((0.1,)))


def test_the_verb_prints_every_scale_and_one_json_object_a_run(store, capsys):
    folder, ids = store
    words = [str(folder.folder), "--scales", "0|0.1", "--draws", "2"]
    assert perturb(words) == 0
    assert "PAC-Bayes: vacuous" in capsys.readouterr().out
    assert perturb([*words, "--format", "json", "--run", ids[1]]) == 0
    (told,) = json.loads(capsys.readouterr().out)
    assert told["run"] == ids[1] and [len(draws["losses"]) for draws in told["curve"]] == [1, 2]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["nowhere"], "There is no folder nowhere"),
        (["runs", "--run", "abc"], "no finished run abc"),
        (["runs", "--draws", "1"], "at least 2"),
        (["runs", "--scales", "0|-1"], "scale"),
        (["runs", "--device", "warp"], "--device warp"),
    ],
)
def test_the_verb_refuses_what_it_cannot_do_in_one_line(store, words, says, capsys):
    assert perturb(words) == 2
    error = capsys.readouterr().err
    assert says in error and error.count("\n") == 1


def test_weights_are_kept_of_every_trial_of_a_stack(cli, tmp_path):
    words = (
        "--benchmark",
        "toy",
        "--epochs",
        1,
        "--trials",
        2,
        "--stack",
        "on",
        "--quiet",
        "--no-plots",
        "--out",
        "runs",
    )
    code, _, err = cli(*words, "--keep-weights", "--out", "runs")
    assert code == 0, err
    assert len(list((tmp_path / "runs" / "weights").iterdir())) == 2


def test_weights_of_another_training_of_the_same_run_are_refused(store):
    folder, (run_id, _) = store
    result = folder.get(run_id)
    _, model = open_run(folder, result, None, "cpu")
    with torch.no_grad():
        next(iter(model.parameters())).add_(1e-3)
    weights.save(folder.weights_path(run_id), model, run_id)
    with pytest.raises(UserError, match="another training"):
        open_run(folder, result, None, "cpu")


def test_a_worker_that_does_not_see_the_store_refuses_to_lose_weights(toy_spec, tmp_path):
    from cl_nvrm.sweep.job import Job

    with pytest.raises(UserError, match="--keep-weights"):
        Job(Store(tmp_path / "nowhere"), keep_weights=True)((toy_spec(),), wait=True)


def test_a_full_disk_costs_the_weights_and_not_the_run(toy_spec, tmp_path):
    from cl_nvrm.training.train import run_one

    (tmp_path / "weights").write_text("a file where the folder should be")
    assert run_one(toy_spec(epochs=1), keep_weights=tmp_path / "weights" / "a.safetensors").status == "done"


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path):
    from cl_nvrm.training.replacing import replacing

    path = tmp_path / "new folder" / "file.json"
    with replacing(path) as new:
        new.write_text("first")
    with pytest.raises(ZeroDivisionError), replacing(path) as new:
        new.write_text("half of the sec")
        _ = 1 / 0
    assert path.read_text() == "first" and list(path.parent.iterdir()) == [path]
