"""What the README tells people to type works."""

import re
import shlex
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
PYTHON = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
SHELL = "\n".join(re.findall(r"```bash\n(.*?)```", README, re.DOTALL)).replace("\\\n", " ")
COMMANDS = [
    line for line in SHELL.splitlines() if line.startswith("python -m cl_nvrm.run") and "--scheduler" not in line
]  # one with a scheduler needs a cluster: tests/test_cluster.py
# The same commands on less work: later flags win.
SMALL = {
    "permuted-mnist": ["--benchmark", "permuted-mnist:subset=512,width=16,tasks=2"],
    "split-mnist": ["--benchmark", "split-mnist:subset=1000,width=16"],
    "noisy-cifar10": ["--benchmark", "noisy-cifar10:subset=100,model=small-cnn(width=4)", "--epochs", "1"],
    "noisy-mnist": ["--benchmark", "noisy-mnist:noise=symmetric,subset=100", "--epochs", "1"],
    "random-labels": ["--benchmark", "random-labels:subset=300,validation=100", "--epochs", "1"],
}
LESS = ["--data", "digits", "--jobs", "1", "--trials", "2", "--out", "runs"]


@pytest.fixture
def with_example(monkeypatch, tmp_path):
    import cl_nvrm

    (tmp_path / "strategies").mkdir()
    (tmp_path / "strategies" / "l2.py").write_text(PYTHON[0])
    monkeypatch.setattr(cl_nvrm, "__path__", [*cl_nvrm.__path__, str(tmp_path)])


@pytest.mark.parametrize("command", COMMANDS)
def test_the_command_works(command, cli, with_example):
    words = shlex.split(command)[3:]
    kind = words[words.index("--benchmark") + 1].partition(":")[0] if "--benchmark" in words else "permuted-mnist"
    fewer = ["--tune", "2", "--tune-tasks", "1"] if "--tune" in words else []
    code, out, err = cli(*words, *SMALL[kind], *LESS, *fewer)
    assert code == 0, err
    assert "Traceback" not in err and out


def test_the_main_command_is_there():
    assert "python -m cl_nvrm.run --strategy ewc+nvrm --lambda 100" in COMMANDS


def test_a_strategy_takes_at_most_fifteen_lines_and_is_a_real_one(cli_json, with_example):
    assert len(PYTHON[0].strip().splitlines()) <= 15
    runs = cli_json("--strategy", "l2", "--strategy", "naive", "--strength", 1, "--no-plots")["runs"]
    assert runs[0]["base_task"][-1] > runs[1]["base_task"][-1]
    assert runs[0]["diagnostics"]["l2"][0]["importance_nonzero"] == 1


def test_the_optimizer_example_runs():
    model = torch.nn.Linear(3, 2)
    loader = [(torch.randn(4, 3), torch.tensor([0, 1, 0, 1]))] * 2
    exec(PYTHON[1], {"torch": torch, "model": model, "loader": loader, "loss": torch.nn.CrossEntropyLoss()})


def test_every_linked_file_is_there():
    for page in (README, (ROOT / "cl_nvrm" / "README.md").read_text(encoding="utf-8")):
        base = ROOT if page is README else ROOT / "cl_nvrm"
        for target in re.findall(r"\]\((?!http)([^)#]+)", page):
            assert (base / target).exists(), target


def test_make_and_ci_run_what_the_readme_says():
    makefile = (ROOT / "Makefile").read_text()
    assert "--strategy ewc+nvrm --lambda 100" in makefile
    assert "make test" in SHELL and "make test" in (ROOT / ".ci" / "run").read_text()
