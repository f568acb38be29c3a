"""What the README and the pages beside the code tell people to type works, and what they link to is there."""

import argparse
import re
import shlex
from importlib import import_module
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parent.parent
COMMAND_PAGES = ["README.md", "cl_nvrm/run/README.md", "strategies/README.md", "benchmarks/README.md",
                 "cl_nvrm/reproduce/README.md", "reports/README.md"]  # fmt: skip
PAGES = [*COMMAND_PAGES, "cl_nvrm/README.md", "cl_nvrm/DECISIONS.md", "cl_nvrm/PYTHON.md"]
TEXTS = {page: (ROOT / page).read_text(encoding="utf-8") for page in PAGES}
README = TEXTS["README.md"]
PYTHON = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
MAIN = "python -m cl_nvrm.run --strategy ewc+nvrm --lambda 100"


def commands_of(text):
    """Return the commands of a page, those in blocks and those within a sentence or a table."""
    blocks = re.findall(r"```bash\n(.*?)```", text, re.DOTALL)
    lines = [line.strip() for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    inline = re.findall(r"`([^`\n]+)`", re.sub(r"```.*?```", "", text, flags=re.DOTALL))
    return [command for command in [*lines, *inline] if command.startswith("python -m cl_nvrm.")]


COMMANDS = list(dict.fromkeys(command for page in COMMAND_PAGES for command in commands_of(TEXTS[page])))
OTHERS = [command for command in COMMANDS if shlex.split(command)[2] != "cl_nvrm.run"]
RUNS = [
    command
    for command in COMMANDS
    # One with a scheduler needs a cluster, tests/test_cluster.py; --frontier the runs of another, tests/test_choice.py
    if command not in OTHERS and "--scheduler" not in command and "--frontier" not in command
]
# The same commands on less work: later flags win.
SMALL = {
    "permuted-mnist": ["--benchmark", "permuted-mnist:subset=512,width=16,tasks=2"],
    "split-mnist": ["--benchmark", "split-mnist:subset=1000,width=16", "--trials", "1"],
    "noisy-cifar10": ["--benchmark", "noisy-cifar10:subset=100,model=small-cnn(width=4)", "--epochs", "1",
                      "--trials", "1"],
    "noisy-mnist": ["--benchmark", "noisy-mnist:noise=symmetric,subset=100", "--epochs", "1"],
    "random-labels": ["--benchmark", "random-labels:subset=300,validation=100", "--epochs", "1", "--trials", "1"],
}  # fmt: skip
LESS = ["--data", "digits", "--jobs", "1", "--trials", "2", "--out", "runs"]


class Parsed(BaseException):
    """A verb has read its words; what it does with them is other tests' business."""


@pytest.fixture
def with_example(monkeypatch, tmp_path):
    import cl_nvrm

    (tmp_path / "strategies").mkdir()
    (tmp_path / "strategies" / "l2.py").write_text(PYTHON[0])
    monkeypatch.setattr(cl_nvrm, "__path__", [*cl_nvrm.__path__, str(tmp_path)])


@pytest.fixture
def parse_only(monkeypatch):
    """Stop a verb once it has parsed its words; Parsed carries the values, and the words that are left."""
    parse = argparse.ArgumentParser.parse_known_args

    def stop(self, args=None, namespace=None):
        raise Parsed(*parse(self, args, namespace))

    monkeypatch.setattr(argparse.ArgumentParser, "parse_known_args", stop)


def small(command):
    """Return the words of a command, and those that make it the same on less work."""
    words = shlex.split(command)[3:]
    kind = words[words.index("--benchmark") + 1].partition(":")[0] if "--benchmark" in words else "permuted-mnist"
    less = [*LESS, *SMALL[kind]]
    if "--tune" in words:
        less += ["--tune", "2", "--tune-tasks", "1", "--tune-seeds", "1"]
    if "--out reports/studies/" in command:  # a study's own runs: that they can be planned is enough
        less += ["--dry-run"]
    return [*words, *less]


@pytest.mark.parametrize(
    "command", [pytest.param(c, marks=() if c in commands_of(README) else pytest.mark.slow) for c in RUNS]
)
def test_the_command_works(command, cli, with_example):
    code, out, err = cli(*small(command))
    assert code == 0, err
    assert "Traceback" not in err and out


@pytest.mark.parametrize("command", OTHERS)
def test_the_words_of_the_other_verbs_are_known(command, parse_only):
    from cl_nvrm.__main__ import VERBS
    from cl_nvrm.run.flags import Arguments
    from cl_nvrm.study.studies import GROUPS

    _, _, module, *words = shlex.split(command)
    verb = module.removeprefix("cl_nvrm.")
    assert verb in VERBS
    with pytest.raises(Parsed) as parsed:
        import_module(VERBS[verb]).main(words)
    values, rest = parsed.value.args
    if verb == "calibrate":  # takes the flags of a run, too
        rest = [word for word in rest if word.removeprefix("--").replace("-", "_") not in Arguments.flag_names()]
    assert not rest
    if verb == "study":
        assert set(values.names) <= {*GROUPS, *(name for group in GROUPS.values() for name in group)}
    if verb == "reproduce":
        from cl_nvrm.reproduce.listing import names

        assert set(values.names) <= set(names())
    if verb == "report":
        assert all((ROOT / word).is_dir() for word in values.words if "studies" in Path(word).parts)


def test_the_commands_are_found():
    assert MAIN in RUNS and len(RUNS) >= 10
    assert {shlex.split(command)[2] for command in COMMANDS} == {
        f"cl_nvrm.{verb}" for verb in ("run", "report", "runs", "study", "reproduce", "perturb", "calibrate", "bench")
    }
    for page in (
        "README.md",
        "cl_nvrm/run/README.md",
        "strategies/README.md",
        "cl_nvrm/reproduce/README.md",
        "reports/README.md",
    ):
        assert commands_of(TEXTS[page]), page


def test_the_readme_is_short():
    assert len(README.split()) <= 700


def test_the_readme_shows_what_the_main_command_prints(cli):
    after = README[README.index(MAIN) :]
    shown = re.search(r"```text\n(.*?)```", after, re.DOTALL)[1].splitlines()
    code, out, err = cli(*small(MAIN), "--trials", "1", "--out", "reports/runs")
    assert code == 0
    printed = [line.strip() for line in (out + err).splitlines()]
    for line in (line for line in shown if line != "…"):
        # Two tasks instead of five: compare what comes before the numbers, and lines of the frame by their first mark.
        start = re.split(r"\d|; 1 head|━|─", line)[0].strip() if not line.startswith(("figure:", "runs:")) else line
        assert any(other.startswith(start) for other in printed), line
    assert "data: digits" in shown[0] and "data: digits" in err
    tasks = shown[3].count("┃") - 2
    assert tasks == 5 and all(len(re.findall(r"\d+\.\d", row)) == tasks for row in shown if row.startswith("│"))


@pytest.mark.parametrize("kind", ["strategies", "benchmarks", "models"])
def test_the_readme_names_all_there_is(kind):
    from cl_nvrm.spec import catalog

    table = README[README.index("## What there is") : README.index("## Add a strategy")]
    assert set(catalog.names(kind)) <= set(re.findall(r"`([^`]+)`", table))


def test_the_strategies_page_names_every_strategy_and_flag():
    from cl_nvrm.spec import catalog

    rows = dict(re.findall(r"^\| `([a-z0-9-]+)` \|(.*)\|$", TEXTS["strategies/README.md"], re.MULTILINE))
    assert set(rows) == set(catalog.names("strategies"))
    for name, row in rows.items():
        flags = set(re.findall(r"--([a-z-]+)", row.split("|")[-1].split(";")[0]))
        wanted = {key.replace("_", "-") for key in catalog.parameters(catalog.maker("strategies", name))}
        assert flags == wanted, name


def test_a_strategy_takes_at_most_fifteen_lines_and_is_a_real_one(cli_json, with_example):
    assert len(PYTHON[0].strip().splitlines()) <= 15
    runs = cli_json("--strategy", "l2", "--strategy", "naive", "--strength", 1, "--no-plots")["runs"]
    assert runs[0]["base_task"][-1] > runs[1]["base_task"][-1]
    assert runs[0]["diagnostics"]["l2"][0]["importance_nonzero"] == 1


def test_the_optimizer_example_runs():
    model = torch.nn.Linear(3, 2)
    loader = [(torch.randn(4, 3), torch.tensor([0, 1, 0, 1]))] * 2
    exec(PYTHON[1], {"torch": torch, "model": model, "loader": loader, "loss": torch.nn.CrossEntropyLoss()})


@pytest.mark.parametrize("page", PAGES)
def test_every_linked_file_is_there(page):
    for target in re.findall(r"\]\((?!http)([^)#]+)", TEXTS[page]):
        assert ((ROOT / page).parent / target).exists(), target


def test_every_decision_names_the_tests_that_keep_it():
    decisions = TEXTS["cl_nvrm/DECISIONS.md"].partition("\n# Differences")[0]
    entries = re.findall(r"^\*\*(.+?)\*\*\n(.*?)(?=\n\n|\Z)", decisions, re.DOTALL | re.MULTILINE)
    assert len(entries) >= 35
    for line, below in entries:
        tests = re.findall(r"`(test_\w+)`", below)
        assert tests, line
        assert all((ROOT / "tests" / f"{test}.py").exists() for test in tests), line


def test_make_and_ci_run_what_the_readme_says():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert MAIN.removeprefix("python -m cl_nvrm.run ") in makefile
    for target in re.findall(r"`make ([\w-]+)`", "".join(TEXTS.values())):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target
    assert "`make test`" in README and {"make test", "make test-slow"} <= set(
        (ROOT / ".ci" / "run").read_text(encoding="utf-8").splitlines()
    )
