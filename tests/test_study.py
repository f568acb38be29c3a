"""Every study can be planned at every scale, and runs through at the smallest."""

import json

import pytest

from cl_nvrm.run.flags import parse
from cl_nvrm.run.plan import plan
from cl_nvrm.study.__main__ import main
from cl_nvrm.study.definitions import SCALES, Part, Study
from cl_nvrm.study.studies import GROUPS
from cl_nvrm.sweep.store import Store

STUDIES = {name: study for studies in GROUPS.values() for name, study in studies.items()}
PARTS = [
    pytest.param(
        part, id=f"{name}-{scale}-{part.panel}-{number}", marks=pytest.mark.slow if number or scale == "paper" else ()
    )
    for name, study in STUDIES.items()
    for scale in SCALES
    for number, part in enumerate(study.parts.get(scale, ()))
    if scale != "paper" or number == 0  # the others differ in their data set, rate or network
    if "--frontier" not in part.words  # whose settings are known once the runs of another part are
]


@pytest.mark.parametrize("part", PARTS)
def test_every_part_can_be_planned(part):
    arguments = parse([*part.words, "--data", "digits"])
    planned = plan(arguments, lambda _: None)
    assert len(planned.specs) == len({spec.id for spec in planned.specs}) > 0


def test_parts_choose_from_the_runs_of_a_part_before_them():
    every = [
        (parts, number) for study in STUDIES.values() for parts in study.parts.values() for number in range(len(parts))
    ]
    choosing = [(parts, number) for parts, number in every if "--frontier" in parts[number].words]
    assert len(choosing) == 12
    for parts, number in choosing:
        words = parts[number].words
        before = [part.panel for part in parts[:number]]
        assert words[words.index("--frontier") + 1] in before and parse(words).frontier
        seeds = [(parse(part.words).seed, parse(part.words).trials) for part in parts[: number + 1]]
        used = [seed for first, count in seeds for seed in range(first, first + count)]
        assert len(set(used)) == len(used), "no seed in two stages"


def test_a_study_draws_from_the_store_what_it_has_trained(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = ["robustness", "--scale", "smoke", "--jobs", "1", "--quiet", "--epochs", "1"]
    assert main([*words, "--out", "out"]) == 0
    figures = sorted((tmp_path / "out" / "figures").iterdir())
    assert [path.name for path in figures] == ["robustness-digits.png", "robustness-digits.svg"]
    before = {path: path.read_bytes() for path in figures}
    for path in (tmp_path / "out" / "weights").iterdir():
        path.unlink()
    for path in figures:
        path.unlink()
    assert main([*words, "--out", "out"]) == 0
    assert {path: path.read_bytes() for path in figures} == before
    assert not list((tmp_path / "out" / "weights").iterdir()), "nothing was trained again"


def test_a_study_that_is_none_is_refused(capsys):
    assert main(["denoise"]) == 2
    err = capsys.readouterr().err
    assert "No study 'denoise'; there are continual, mechanism" in err and len(err.splitlines()) == 1


def test_runs_that_do_not_finish_are_told_and_not_drawn(tmp_path, capsys, monkeypatch):
    from cl_nvrm.study import __main__ as study

    part = Part("digits", ("--benchmark", "toy", "--lr", "1e30", "--optimizer", "sgd", "--trials", "1"))
    monkeypatch.setitem(
        study.GROUPS, "doomed", {"doomed": Study("?", "figures.generalisation.curves", {"smoke": (part,)})}
    )
    words = ["doomed", "--scale", "smoke", "--jobs", "1", "--quiet", "--out", str(tmp_path / "out")]
    assert main(words) == 4
    told = capsys.readouterr()
    assert "1 run of doomed-digits did not finish" in told.err and told.out == ""


@pytest.mark.parametrize("name", list(STUDIES))
def test_every_study_names_a_figure_there_is(name):
    study = STUDIES[name]
    assert callable(study.function(study.figure)) if study.figure else study.store
    assert not study.numbers or callable(study.function(study.numbers))


def test_no_study_is_called_like_another_or_a_group():
    names = [*GROUPS, *(name for studies in GROUPS.values() for name in studies)]
    assert len(set(names)) == len(names)


def test_a_study_may_compute_what_it_shows(tmp_path, capsys):
    assert main(["implicit-units", "--scale", "smoke", "--out", str(tmp_path)]) == 0
    assert {path.name for path in (tmp_path / "figures").iterdir()} == {"implicit-units.png", "implicit-units.svg"}
    numbers = json.loads((tmp_path / "numbers" / "implicit-units.json").read_text())
    assert "kinds of units, label noise, fresh" in numbers
    assert "numbers: " in capsys.readouterr().out


def test_a_group_is_its_studies_each_in_its_folder(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    part = Part("toy", ("--benchmark", "toy", "--tasks", "1", "--epochs", "1", "--trials", "1"))
    from cl_nvrm.study import __main__ as study

    monkeypatch.setitem(
        study.GROUPS, "two", {n: Study("?", "figures.generalisation.methods", {"smoke": (part,)}) for n in "ab"}
    )
    assert main(["two", "--scale", "smoke", "--jobs", "1", "--quiet"]) == 0
    figures = sorted(path.name for path in (tmp_path / "reports/studies/two/smoke/figures").iterdir())
    assert figures == ["a-toy.png", "a-toy.svg", "b-toy.png", "b-toy.svg"]


def test_a_study_that_trains_nothing_takes_no_flags_of_training(capsys):
    assert main(["implicit-units", "--scale", "smoke", "--trials", "5"]) == 2
    assert "implicit-units computes what it shows, and takes none of --trials 5" in capsys.readouterr().err


def test_a_study_may_show_what_the_main_command_and_the_report_show(tmp_path, capsys):
    words = ["frontier-permuted", "forgetting-split-mnist", "--scale", "smoke", "--jobs", "1", "--quiet"]
    assert main([*words, "--out", str(tmp_path)]) == 0
    screen, grid, fresh = (tmp_path / "frontier-permuted" / name for name in ("screen", "grid", "fresh"))
    assert (screen / "figures" / "base_task.png").is_file()
    assert "primary: nvrm - naive" in (fresh / "tables" / "tables.md").read_text()
    (choice,) = Store(fresh).choices()
    assert {r.spec.seed for r in Store(grid).results()} == set(choice.seeds)
    assert (tmp_path / "forgetting-split-mnist" / "figures" / "mean_accuracy.svg").is_file()
    assert not (tmp_path / "forgetting-split-mnist" / "tables").exists()


def test_noise_or_steps_draws_three_views_of_every_setting(tmp_path):
    from cl_nvrm.analysis.comparisons import cells
    from cl_nvrm.spec.cell_names import cell_names
    from cl_nvrm.study.figures.mechanism import noise_or_steps

    words = ["noise-or-steps", "--scale", "smoke", "--jobs", "1", "--quiet", "--out", str(tmp_path)]
    assert main(words) == 0
    results = Store(tmp_path).results()
    assert len(results) == 6 and all("landscape" in result.diagnostics for result in results)
    axes = noise_or_steps(cells(results, cell_names(r.spec for r in results)), "title").axes
    names = [text.get_text() for text in axes[0].get_legend().get_texts()]
    assert sorted(names) == ["naive, weight decay 0", "naive, weight decay 0.001", "nvrm, weight decay 0"]
    moved = sorted(x for line in axes[1].lines if line.get_marker() not in ("None", None) for x in line.get_xdata())
    found = [r.diagnostics["landscape"][-1]["moved"] for r in results]
    assert len(moved) == 3 and sum(moved) / 3 == pytest.approx(sum(found) / 6)
