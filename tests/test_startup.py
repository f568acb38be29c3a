"""What each way in imports: little, and nothing heavy that it does not use."""

import importlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from cl_nvrm import deferred
from cl_nvrm.sweep.store import Store
from cl_nvrm.training.train import run_one

ROOT = Path(__file__).resolve().parent.parent
NEVER = {"wandb", "torchmetrics", "scipy.signal", "torchvision.models", "torch._dynamo", "sympy", "gdown", "sklearn"}
DRAWING = {"matplotlib", "seaborn", "pandas", "scipy.stats"}
HEAVY = NEVER | DRAWING | {"torch", "avalanche", "numba", "pydantic"}
ASK = f"""
import json, sys
from contextlib import redirect_stdout
def loaded():
    print(json.dumps(sorted(set({sorted(HEAVY)!r}) & sys.modules.keys())))
def command(*words):
    from cl_nvrm.run import main
    with redirect_stdout(sys.stderr):
        assert main(words) == 0
"""


def loaded(script, folder):
    """What a script has loaded whenever it asks."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", ASK + script],
        cwd=folder, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return [set(json.loads(line)) for line in done.stdout.splitlines()]


def test_lists_help_and_names_need_nothing_heavy(tmp_path):
    script = "import cl_nvrm, cl_nvrm.optim; command('--list', 'strategies'); command('--list', 'benchmarks'); loaded()"
    assert loaded(script, tmp_path) == [set()]


def test_planning_needs_torch_and_a_few_steps_need_avalanche_and_no_more(tmp_path):
    plain, planned, estimated = loaded(
        """
from cl_nvrm.run.flags import parse
from cl_nvrm.run.plan import plan
plan(parse(["--benchmark", "toy"]), print)
loaded()
plan(parse(["--benchmark", "toy", "--strategy", "ewc+nvrm"]), print)
loaded()
command("--benchmark", "toy", "--strategy", "nvrm", "--dry-run")
loaded()
""",
        tmp_path,
    )
    assert plain == {"torch"}
    assert planned == {"torch", "avalanche"}  # which the refusals of plug-ins take
    assert estimated == {"torch", "avalanche", "numba"}


def test_a_report_needs_no_torch(tmp_path, toy_spec):
    Store(tmp_path).save(run_one(toy_spec(), threads=1))
    script = "from pathlib import Path\nfrom cl_nvrm.report.__main__ import write\nwrite([Path()], Path('out'), '')"
    (found,) = loaded(f"{script}\nloaded()", tmp_path)
    assert "scipy.stats" in found and not found & (NEVER | {"torch", "avalanche", "numba"})


@pytest.mark.slow
def test_what_was_left_out_works_when_somebody_wants_it(tmp_path):
    script = """
import cl_nvrm, torch
from avalanche.evaluation.metric_results import Figure
from avalanche.evaluation.metrics import topk_acc
loaded()
import torchvision
assert torchvision.models.mobilenet_v2.__module__ == "torchvision.models.mobilenetv2"
from torchvision import models
assert models.list_models() and torchvision.ops.nms
assert topk_acc.accuracy(torch.eye(3), torch.arange(3), task="multiclass", num_classes=3) == 1
import matplotlib.figure, scipy.signal, torchmetrics, wandb
assert wandb.Settings and scipy.signal.convolve and torchmetrics.__version__
assert isinstance(matplotlib.figure.Figure(), Figure) and not isinstance(3, Figure)
from avalanche.benchmarks import PermutedMNIST
from avalanche.logging import WandBLogger, TensorboardLogger
from cl_nvrm.optim.adam import optimizer
weight = torch.nn.Parameter(torch.ones(2))
made = optimizer([weight], lr=0.1, weight_decay=0.0)
import torch._dynamo
compiled = torch.compile(lambda x: x + 1, backend="eager")
assert (compiled(weight) == 2).all()
weight.sum().backward(), made.step(), made.zero_grad(), made.load_state_dict(made.state_dict())
assert weight[0] < 1
assert getattr(torch.optim.Optimizer.zero_grad.__wrapped__, "__dynamo_disable").__module__.startswith("torch._dynamo")
"""
    assert not loaded(script, tmp_path)[0] & NEVER


@pytest.mark.slow
def test_whoever_imports_avalanche_first_has_all_of_it(tmp_path):
    script = """
import avalanche, torchmetrics
import cl_nvrm
from avalanche.evaluation.metrics import topk_acc
assert topk_acc.torchmetrics is torchmetrics and sys.modules["wandb"].Settings
"""
    loaded(script, tmp_path)


@pytest.mark.slow
def test_another_version_of_avalanche_that_wants_more_than_names_gets_it(tmp_path):
    for name, source in (
        ("avalanche", "from . import inner\nimport wandb\nversion = wandb.__version__\n"),
        ("wandb", "__version__ = '1.0'\n"),
    ):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text(source)
    (tmp_path / "avalanche" / "inner.py").write_text("from wandb import __doc__\n")
    loaded("import cl_nvrm, avalanche\nassert avalanche.version == sys.modules['wandb'].__version__ == '1.0'", tmp_path)


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package ``unused``, and a way to import a module that uses it while it is deferred."""
    (tmp_path / "unused").mkdir()
    (tmp_path / "unused" / "__init__.py").write_text("class Base: pass\ndef double(x): return 2 * x\n")
    (tmp_path / "unused" / "inner.py").write_text("number = 7\n")
    monkeypatch.setattr(deferred, "UNUSED", ("unused", "not_there"))
    monkeypatch.syspath_prepend(str(tmp_path))
    before = set(sys.modules)

    def using(source):
        (tmp_path / "using.py").write_text(source)
        importlib.invalidate_caches()
        deferral = deferred._Deferral()
        try:
            return importlib.import_module("using")
        finally:
            deferral.end()

    yield using
    for name in sys.modules.keys() - before:
        del sys.modules[name]


def test_a_deferred_package_is_imported_at_its_first_use_and_is_then_the_real_one(package):
    made = package(
        "import unused, unused.inner as inner\nfrom unused import Base, double\nfrom unused import inner as i\n"
    )
    assert "unused" not in sys.modules and not any(isinstance(f, deferred._Deferral) for f in sys.meta_path)
    assert made.double(3) == 6 and made.inner.number == made.i.number == made.unused.inner.number == 7
    import unused

    assert isinstance(unused.Base(), made.Base) and not isinstance(3, made.Base) and issubclass(unused.Base, made.Base)
    assert made.unused.Base is unused.Base and (made.Base | None) == (unused.Base | None)
    with pytest.raises(AttributeError):
        made.unused.nothing  # noqa: B018


@pytest.mark.parametrize(
    "source", ["from unused import Base\nclass Own(Base): pass\n", "import unused\nunused.double(1)\n"]
)
def test_what_is_used_at_once_is_imported_at_once(package, source):
    package(source)
    assert "Base" in vars(sys.modules["unused"])


def test_a_deferred_package_that_is_not_installed_is_missing(package):
    made = package("try:\n    import not_there\nexcept ImportError:\n    not_there = None\n")
    assert made.not_there is None
