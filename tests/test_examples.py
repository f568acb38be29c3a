"""The examples in docstrings give what they show."""

import doctest
from importlib import import_module
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
MODULES = sorted(
    ".".join(path.relative_to(ROOT).with_suffix("").parts)
    for path in (ROOT / "cl_nvrm").rglob("*.py")
    if ">>>" in path.read_text(encoding="utf-8")
)
# What a stranger calls first: each shows an example.
SHOWN = [
    "cl_nvrm.noise.Perturbation",
    "cl_nvrm.noise.weight_noise",
    "cl_nvrm.noise.law",
    "cl_nvrm.plugins.nvrm.NVRMPlugin",
    "cl_nvrm.spec.grammar.parse_sum",
    "cl_nvrm.spec.derived_seed",
    "cl_nvrm.analysis.metrics.base_task",
    "cl_nvrm.analysis.metrics.mean_accuracy",
    "cl_nvrm.analysis.stats.t_interval",
    "cl_nvrm.analysis.stats.sign_flip_p",
    "cl_nvrm.analysis.stats.compare",
    "cl_nvrm.analysis.pac_bayes.bound",
    "cl_nvrm.analysis.robustness.neural_variability",
    "cl_nvrm.analysis.complexity.intra_class_variance",
    "cl_nvrm.analysis.convexity.convexity",
]


@pytest.mark.parametrize("module", MODULES)
def test_examples_give_what_they_show(module):
    failed, tried = doctest.testmod(import_module(module), optionflags=doctest.NORMALIZE_WHITESPACE)
    assert tried and not failed


@pytest.mark.parametrize("name", SHOWN)
def test_what_is_called_first_has_an_example(name):
    module, _, last = name.rpartition(".")
    assert ">>>" in getattr(import_module(module), last).__doc__
