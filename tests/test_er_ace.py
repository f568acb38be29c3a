"""ER-ACE: which classes compete in which part of the loss, and from when on."""

import pytest
import torch
from avalanche.core import SupervisedPlugin
from torch.nn.functional import cross_entropy

from cl_nvrm.benchmark import Benchmark, TaskData
from cl_nvrm.errors import UserError
from cl_nvrm.models.mlp import MLP
from cl_nvrm.plugins.er import ERPlugin
from cl_nvrm.plugins.er_ace import ERACEPlugin, occurring
from cl_nvrm.plugins.label_noise_sgd import LabelNoisePlugin
from cl_nvrm.plugins.nvrm import NVRMPlugin
from cl_nvrm.plugins.si import SIPlugin


def new_classes():
    """Two tasks of two classes each, which one output layer tells apart."""
    draws = torch.Generator().manual_seed(0)
    tasks = [TaskData(torch.randn(96, 6, generator=draws), torch.arange(96) % 2 + first) for first in (0, 2)]
    return Benchmark("class-incremental", tasks, tasks, lambda: MLP(6, 4, width=8), 0.25)


def sgd(model):
    return torch.optim.SGD(model.parameters(), lr=0.05)  # moves nothing that has no gradient


class Watch(SupervisedPlugin):
    """The batches' logits and labels, and the loss with and without what is added to it."""

    def __init__(self):
        super().__init__()
        self.logits, self.labels, self.batch_losses, self.losses = [], [], [], []

    def after_forward(self, strategy, **kwargs):
        self.logits.append(strategy.mb_output.detach())
        self.labels.append(strategy.mb_y)
        self.batch_losses.append(float(strategy.criterion().detach()))

    def after_backward(self, strategy, **kwargs):
        self.losses.append(float(strategy.loss.detach()))


def test_a_class_occurs_in_its_own_task_only():
    found = occurring(torch.tensor([0, 1, 0]), torch.tensor([0, 0, 3]), 3)
    assert found.tolist() == [[True, True, False], [True, True, False], [True, False, False]]


@pytest.mark.parametrize("noise", [0.0, 0.05])
def test_new_samples_compete_with_the_classes_of_their_batch_and_those_from_memory_with_all(train_toy, noise):
    asked, watch = [], Watch()

    class Spy(ERACEPlugin):
        def term(self, strategy):
            term = super().term(strategy)
            if self.later:
                with torch.no_grad():
                    asked.append((strategy.model(self.drawn["x"]), self.drawn["y"], float(term.detach())))
            return term

        def draw(self, strategy):
            self.drawn = super().draw(strategy)
            return self.drawn

    plugin = Spy(50)
    train_toy([watch, plugin, NVRMPlugin(noise)], benchmark=new_classes())
    for logits, labels, loss in zip(watch.logits[:3], watch.labels, watch.losses, strict=False):
        assert loss == pytest.approx(float(cross_entropy(logits, labels)), rel=1e-5)
    assert len(asked) == 3 and {0, 1} <= set(torch.cat([y for _, y, _ in asked]).tolist())
    for number, (logits, y, term) in enumerate(asked, 3):
        # the classes 2 and 3 of a batch of the second task, as 0 and 1 of the two of them
        alone = float(cross_entropy(watch.logits[number][:, 2:], watch.labels[number] - 2))
        assert watch.batch_losses[number] == pytest.approx(alone, rel=1e-5)
        assert alone < float(cross_entropy(watch.logits[number], watch.labels[number]))
        assert term == pytest.approx(float(cross_entropy(logits, y)), rel=1e-5)
        assert watch.losses[number] == pytest.approx(alone + term, rel=1e-5)


def test_without_a_memory_outputs_of_absent_classes_do_not_move(train_toy):
    kept = []

    class Head(SupervisedPlugin):
        def after_training_exp(self, strategy, **kwargs):
            kept.append(strategy.model.heads[0].weight.detach()[:2].clone())

    train_toy([ERACEPlugin(0), Head()], benchmark=new_classes(), optimizer=sgd)
    assert torch.equal(*kept)
    kept.clear()
    train_toy([Head()], benchmark=new_classes(), optimizer=sgd)
    assert not torch.equal(*kept)


def test_what_else_joins_the_batch_keeps_all_its_classes(train_toy):
    watch = Watch()
    train_toy([ERACEPlugin(0), ERPlugin(50), watch], benchmark=new_classes())
    for logits, labels, loss in list(zip(watch.logits, watch.labels, watch.losses, strict=True))[3:]:
        new = cross_entropy(logits[:32, 2:], labels[:32] - 2, reduction="sum")
        old = cross_entropy(logits[32:], labels[32:], reduction="sum")
        assert loss == pytest.approx(float(new + old) / len(labels), rel=1e-5)


@pytest.mark.parametrize("benchmark", ["toy:tasks=1,samples=128", "toy:tasks=1,samples=128,heads=true"])
def test_the_first_task_is_plain_training_bit_for_bit(toy_bits, benchmark):
    assert toy_bits("er-ace", benchmark=benchmark) == toy_bits("naive", benchmark=benchmark)


def test_si_finds_the_gradient_of_the_new_samples_alone(train_toy):
    seen = []

    class Check(SupervisedPlugin):
        def after_backward(self, strategy, **kwargs):
            seen.append(strategy.model.heads[0].weight.grad[:2].clone())

    train_toy([ERACEPlugin(50), Check(), SIPlugin(0.0)], benchmark=new_classes())
    assert all(bool(gradient.any()) for gradient in seen[:3])
    assert len(seen) == 6 and not any(bool(gradient.any()) for gradient in seen[3:])  # classes that are left out


def test_the_criterion_comes_back_also_after_an_exception(train_toy):
    class Fail(SupervisedPlugin):
        def before_backward(self, strategy, **kwargs):
            self.strategy = strategy
            if plugin.later:
                raise RuntimeError("on purpose")

    plugin, fail = ERACEPlugin(10), Fail()
    with pytest.raises(RuntimeError, match="on purpose"):
        train_toy([plugin, fail])
    assert isinstance(fail.strategy._criterion, torch.nn.CrossEntropyLoss)


def test_label_noise_is_refused_unless_there_is_none(train_toy):
    with pytest.raises(UserError, match="er-ace leaves classes"):
        train_toy([ERACEPlugin(), LabelNoisePlugin(rate=0.1)])
    train_toy([ERACEPlugin(), LabelNoisePlugin(rate=0.0)])
