"""Every study can be planned at every scale, and runs through at the smallest."""

import pytest

from cl_nvrm.arguments import parse
from cl_nvrm.plan import plan
from cl_nvrm.study.__main__ import main
from cl_nvrm.study.definitions import SCALES, STUDIES, Part, Study

PARTS = [
    pytest.param(part, id=f"{name}-{scale}-{part.panel}-{number}")
    for name, study in STUDIES.items()
    for scale in SCALES
    for number, part in enumerate(study.parts[scale])
    if scale != "paper" or number == 0  # the others differ in their data set, rate or network
]


@pytest.mark.parametrize("part", PARTS)
def test_every_part_can_be_planned(part):
    arguments = parse([*part.words, "--data", "digits"])
    planned = plan(arguments, lambda _: None)
    assert len(planned.specs) == len({spec.id for spec in planned.specs}) > 0


def test_a_study_draws_from_the_store_what_it_has_trained(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = ["label-noise", "robustness", "--scale", "smoke", "--jobs", "1", "--quiet", "--epochs", "1"]
    assert main([*words, "--out", "out"]) == 0
    figures = sorted((tmp_path / "out" / "figures").iterdir())
    stems = {"label-noise-digits", "robustness-digits"}
    assert {path.stem for path in figures} == stems and len(figures) == 4
    before = {path: path.read_bytes() for path in figures}
    for path in (tmp_path / "out" / "weights").iterdir():
        path.unlink()
    for path in figures:
        path.unlink()
    assert main([*words, "--out", "out"]) == 0
    assert {path: path.read_bytes() for path in figures} == before
    assert not list((tmp_path / "out" / "weights").iterdir()), "nothing was trained again"


def test_a_study_that_is_none_is_refused(capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["denoise"])
    assert stopped.value.code == 2
    assert "there are label-noise, denoising" in capsys.readouterr().err


def test_runs_that_do_not_finish_are_told_and_not_drawn(tmp_path, capsys, monkeypatch):
    from cl_nvrm.study import __main__ as study

    part = Part("digits", ("--benchmark", "toy", "--lr", "1e30", "--optimizer", "sgd", "--trials", "1"))
    monkeypatch.setitem(study.STUDIES, "doomed", Study("?", "curves", {"smoke": (part,)}))
    words = ["doomed", "--scale", "smoke", "--jobs", "1", "--quiet", "--out", str(tmp_path / "out")]
    assert main(words) == 4
    told = capsys.readouterr()
    assert "1 runs of doomed-digits did not finish" in told.err and told.out == ""
