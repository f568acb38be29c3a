import math

import pytest
import torch
from torch.nn.functional import cross_entropy

from cl_nvrm.errors import UserError
from cl_nvrm.plugins.landscape import LandscapePlugin
from cl_nvrm.training.train import run_one

SHORT = {"benchmark": "toy:tasks=3,samples=120"}


def test_looking_on_changes_no_bit(toy_spec):
    for strategy in ("naive", "nvrm", "ewc:lambda=10+nvrm"):
        plain, seen = (run_one(toy_spec(text, **SHORT), threads=1) for text in (strategy, f"{strategy}+landscape"))
        assert plain.provenance["weights_sha256"] == seen.provenance["weights_sha256"]
        assert plain.accuracy == seen.accuracy


def test_distance_and_rise_are_recorded_after_each_task(toy_spec):
    found = run_one(toy_spec("landscape:b=0.1,draws=3", **SHORT), threads=1).diagnostics["landscape"]
    assert [set(task) for task in found] == [{"moved", "first_loss", "first_rise"}] * 3
    assert found[0]["moved"] == 0 < found[1]["moved"] < found[2]["moved"]
    assert len({task["first_loss"] for task in found}) == 3 and min(task["first_loss"] for task in found) > 0
    small = run_one(toy_spec("landscape:b=0.01,draws=3", **SHORT), threads=1).diagnostics["landscape"]
    assert abs(small[0]["first_rise"]) < abs(found[0]["first_rise"]) and small[0]["moved"] == found[0]["moved"]


class Strategy:
    device = "cpu"


def test_the_numbers_are_those_of_their_definitions():
    strategy, plugin = Strategy(), LandscapePlugin(0.05, draws=400, samples=50)
    strategy.model = torch.nn.Sequential(torch.nn.Linear(6, 4))
    x = torch.randn(50, strategy.model[0].in_features, generator=torch.Generator().manual_seed(0))
    y = torch.arange(50) % 4
    plugin.batches = [[x, y, torch.zeros(50, dtype=torch.long)]]
    plugin.first = {name: p.detach().clone() for name, p in strategy.model.named_parameters()}
    before = sum(float(p.detach().square().sum()) for p in strategy.model.parameters())
    with torch.no_grad():
        strategy.model[0].weight += 0.5
    plugin.after_training_exp(strategy)
    shift = math.sqrt(0.25 * strategy.model[0].weight.numel() / before)
    assert plugin.diagnostics["moved"] == pytest.approx(shift, rel=1e-5)
    assert plugin.diagnostics["first_loss"] == pytest.approx(
        float(cross_entropy(strategy.model(x), y).detach()), rel=1e-5
    )

    def loss(flat):
        w, bias = flat[: x.shape[1] * 4].view(4, -1), flat[x.shape[1] * 4 :]
        return cross_entropy(x @ w.T + bias, y)

    flat = torch.cat([p.detach().view(-1) for p in strategy.model.parameters()])
    trace = float(torch.autograd.functional.hessian(loss, flat).diagonal().sum())
    assert plugin.diagnostics["first_rise"] == pytest.approx(0.5 * 0.05**2 * trace, rel=0.15)
    after = torch.cat([p.detach().view(-1) for p in strategy.model.parameters()])
    assert strategy.model.training and torch.equal(flat, after)


@pytest.mark.parametrize("wrong", [{"b": 0.0}, {"b": math.nan}, {"draws": 0}, {"samples": 0}])
def test_what_cannot_be_looked_for_is_said(wrong):
    with pytest.raises(UserError, match=r"at least 1|above 0"):
        LandscapePlugin(**wrong)
