"""DER and DER++ are the published ones: which logits are kept, what they are held against, and for whom it is data."""

from copy import deepcopy

import pytest
import torch
from avalanche.core import SupervisedPlugin
from torch import nn
from torch.nn.functional import cross_entropy, mse_loss

from cl_nvrm.benchmark import Benchmark, TaskData
from cl_nvrm.errors import UserError
from cl_nvrm.models.mlp import MLP
from cl_nvrm.noise import Perturbation
from cl_nvrm.plugins.der import MASKED, DERPlugin, mean_square
from cl_nvrm.plugins.er import ERPlugin
from cl_nvrm.plugins.nvrm import NVRMPlugin
from cl_nvrm.plugins.si import SIPlugin


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(20, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 4))


def sgd(model):
    return torch.optim.SGD(model.parameters(), lr=0.05)


class Watch(SupervisedPlugin):
    """What passes by in each iteration."""

    def __init__(self):
        super().__init__()
        self.batches, self.outputs, self.losses = [], [], []

    def after_forward(self, strategy, **kwargs):
        self.batches.append((strategy.mb_x, strategy.mb_y, strategy.mb_task_id))
        self.outputs.append(strategy.mb_output.detach())

    def after_backward(self, strategy, **kwargs):
        self.losses.append(float(strategy.loss.detach()))


class Draws(DERPlugin):
    """Remembers what it drew."""

    def draw(self, strategy):
        drawn = super().draw(strategy)
        vars(self).setdefault("drawn", []).append(drawn)
        return drawn


def test_the_mean_square_is_over_what_was_there_when_logits_were_stored():
    logits = torch.tensor([[1.0, 2.0, 9.0], [1.0, 2.0, 9.0]])
    assert mean_square(logits, torch.zeros(2, 3), torch.tensor([3, 3])) == mse_loss(logits, torch.zeros(2, 3))
    # the first sample is from when there were two outputs: (1 + 4 + 1 + 4 + 81) / 5
    assert float(mean_square(logits, torch.zeros(2, 3), torch.tensor([2, 3]))) == pytest.approx(91 / 5)
    assert float(mean_square(logits, torch.zeros(2, 2), torch.tensor([2, 2]))) == pytest.approx(10 / 4)
    masked = torch.tensor([[0.0, 0.0, MASKED], [0.0, 0.0, -torch.inf]])
    assert float(mean_square(logits, masked, torch.tensor([3, 3]))) == pytest.approx(10 / 4)
    shrunk = mean_square(logits[:, :1], torch.zeros(2, 3), torch.tensor([3, 3]))
    assert float(shrunk) == 1.0


@pytest.mark.parametrize("noise", [0.0, 0.05])
@pytest.mark.parametrize("beta", [0.0, 0.7])
def test_it_equals_a_hand_written_loop_also_under_noise(train_toy, noise, beta):
    """One pass for the batch, then one for each draw, with one noise for all; each moves the running statistics."""
    model, watch, plugin = network(), Watch(), Draws(60, alpha=0.3, beta=beta, batch=16)
    by_hand, xi = deepcopy(model), Perturbation(noise, seed=3)
    train_toy([watch, plugin, NVRMPlugin(noise, seed=3)], model=model, optimizer=sgd)
    weights, draws = list(by_hand.parameters()), iter(plugin.drawn)
    for (x, y, _), total in zip(watch.batches, watch.losses, strict=True):
        with xi.around(weights):
            loss = cross_entropy(by_hand(x), y)
            if (one := next(draws)) is not None:
                loss = loss + 0.3 * mse_loss(by_hand(one["x"]), one["logits"])
            if beta and (other := next(draws)) is not None:
                loss = loss + beta * cross_entropy(by_hand(other["x"]), other["y"])
            gradients = torch.autograd.grad(loss, weights)
        assert total == pytest.approx(float(loss.detach()), rel=1e-4)
        with torch.no_grad():
            for w, g in zip(weights, gradients, strict=True):
                w.sub_(0.05 * g)
    for p, q in zip(model.state_dict().values(), by_hand.state_dict().values(), strict=True):
        torch.testing.assert_close(p, q, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("heads", [False, True])
def test_kept_are_the_logits_of_the_pass_that_trained_on_the_sample_noise_included(train_toy, heads):
    watch, plugin = Watch(), DERPlugin(1000)
    train_toy([NVRMPlugin(0.1), watch, plugin], heads=heads)
    kept = plugin.memory.columns
    for column, shown in (("x", [x for x, *_ in watch.batches]), ("logits", watch.outputs)):
        assert torch.equal(kept[column][: len(plugin.memory)], torch.cat(shown))
    assert set(kept["outputs"][: len(plugin.memory)].tolist()) == {4}


def test_samples_that_joined_the_batch_are_not_kept_once_more(train_toy):
    watch, plugin = Watch(), DERPlugin(1000)
    train_toy([plugin, ERPlugin(50), watch])
    assert len(watch.batches[-1][0]) == 64
    assert torch.equal(plugin.memory.columns["x"][:256], torch.cat([x[:32] for x, *_ in watch.batches]))
    assert torch.equal(plugin.memory.columns["logits"][:256], torch.cat([out[:32] for out in watch.outputs]))


def test_samples_of_all_heads_are_held_to_the_logits_of_their_own(train_toy):
    """Right after they are kept, at the weights that made them, nothing is to pay."""
    found = []

    class Ask(SupervisedPlugin):
        def before_update(self, strategy, **kwargs):
            drawn = plugin.memory.draw(1000)
            if drawn is not None and len(drawn["task"].unique()) == 2:
                with torch.no_grad():
                    logits = torch.stack(
                        [
                            strategy.model(x[None], int(task))[0]
                            for x, task in zip(drawn["x"], drawn["task"], strict=True)
                        ]
                    )
                found.append(float(mean_square(logits, drawn["logits"], drawn["outputs"])))

    plugin = DERPlugin(1000, alpha=0.0)
    train_toy([plugin, Ask()], heads=True, optimizer=lambda m: torch.optim.SGD(m.parameters(), lr=0.0))
    assert found and max(found) < 1e-10


def test_logits_from_before_the_network_grew_are_compared_as_far_as_they_go():
    plugin = DERPlugin(10)
    for outputs in (2, 4):
        plugin.memory.add(
            {
                "x": torch.ones(3, 5),
                "y": torch.zeros(3, dtype=torch.long),
                "task": torch.zeros(3, dtype=torch.long),
                "logits": torch.full((3, outputs), float(outputs)),
                "outputs": torch.full((3,), outputs),
            }
        )
    drawn = plugin.memory.draw(6)
    now = torch.full((6, 4), 4.0)
    assert float(mean_square(now, drawn["logits"], drawn["outputs"])) == pytest.approx(3 * 2 * 2**2 / 18)


class DataGradient(SupervisedPlugin):
    """Holds p.grad right after the backward pass against the gradient of the batch's own loss."""

    checked = 0

    def after_backward(self, strategy, **kwargs):
        model = deepcopy(strategy.model)
        model.zero_grad()
        cross_entropy(model(strategy.mb_x), strategy.mb_y).backward()
        for p, q in zip(strategy.model.parameters(), model.parameters(), strict=True):
            torch.testing.assert_close(p.grad, q.grad, rtol=1e-4, atol=1e-6)
        self.checked += 1


@pytest.mark.parametrize("backwards", [False, True])
def test_si_finds_the_gradient_of_the_data_alone_and_the_step_has_both(train_toy, backwards):
    check = DataGradient()
    plugins = [DERPlugin(60, beta=1.0), SIPlugin(0.0), check]
    _, beside = train_toy(plugins[::-1] if backwards else plugins, optimizer=sgd)
    _, alone = train_toy([DERPlugin(60, beta=1.0)], optimizer=sgd)
    assert check.checked == 8
    for p, q in zip(beside.parameters(), alone.parameters(), strict=True):
        torch.testing.assert_close(p, q, rtol=1e-4, atol=1e-6)


def test_with_clean_penalties_it_is_taken_at_the_clean_weights(train_toy):
    clean = []

    class Spy(DERPlugin):
        def term(self, strategy):
            clean.append(all(torch.equal(p, q) for p, q in zip(strategy.model.parameters(), self.before, strict=True)))
            return super().term(strategy)

        def before_training_iteration(self, strategy, **kwargs):
            self.before = [p.detach().clone() for p in strategy.model.parameters()]
            super().before_training_iteration(strategy, **kwargs)

    for where, expected in (("clean", True), ("noisy", False)):
        clean.clear()
        train_toy([Spy(60), NVRMPlugin(0.1, penalty_at=where)])
        assert set(clean) == {expected}


@pytest.mark.parametrize("setting", ["alpha", "beta"])
@pytest.mark.parametrize("value", [-1.0, float("nan"), float("inf")])
def test_strengths_that_are_none_are_refused(setting, value):
    with pytest.raises(UserError, match=f"{setting} must be a finite number of at least 0"):
        DERPlugin(**{setting: value})


@pytest.mark.parametrize("grows", [True, False])
def test_outputs_that_came_later_are_held_by_nothing(train_toy, grows):
    """And those that were there from the start are, by what they said of the sample then."""
    draws = torch.Generator().manual_seed(0)
    data = [TaskData(torch.randn(96, 6, generator=draws), torch.arange(96) % 2 + first) for first in (0, 2)]

    class Growing(MLP):
        seen = 2

        def forward(self, x, task=0):
            return super().forward(x, task)[:, : self.seen]

    class Grow(SupervisedPlugin):
        def before_training_exp(self, strategy, **kwargs):
            strategy.model.seen = 4 if not grows or strategy.experience.current_experience else 2

    class Pull(SupervisedPlugin):
        """What DER pulls at the weights of the last two outputs."""

        def before_backward(self, strategy, **kwargs):
            drawn = plugin.memory.draw(100)
            if drawn is not None and strategy.experience.current_experience and not pulls:
                old = drawn["y"] < 2
                logits = strategy.model(drawn["x"][old])
                term = mean_square(logits, drawn["logits"][old], drawn["outputs"][old])
                pulls.append(torch.autograd.grad(term, strategy.model.heads[0].weight)[0][2:])

    pulls, plugin = [], DERPlugin(50)
    benchmark = Benchmark("class-incremental", data, data, lambda: Growing(6, 4, width=8), 0.25)
    train_toy([plugin, Grow(), Pull()], benchmark=benchmark, optimizer=sgd)
    assert bool(pulls[0].any()) == (not grows)
