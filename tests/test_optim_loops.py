"""NVRM in the loops that people write: any order of the usual calls, and whatever they put between them.

Each is held against ``Reference``: noise on, passes, noise off, step, all written out.
"""

import copy
import io
import pickle
from contextlib import nullcontext

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy
from torch.nn.utils import clip_grad_norm_
from torch.optim.lr_scheduler import StepLR
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from cl_nvrm.noise import Perturbation
from cl_nvrm.optim import NVRM

B, SEED, STEPS = 0.3, 5, 4
INNER = {
    "sgd": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, weight_decay=0.01),
    "adam": lambda p: torch.optim.Adam(p, lr=0.01),
    "adamw": lambda p: torch.optim.AdamW(p, lr=0.01, weight_decay=0.1),
    "lbfgs": lambda p: torch.optim.LBFGS(p, lr=0.1, max_iter=1),
}
ORDERS = ["zero_grad first", "zero_grad last", "zero_grad between", "zero_grad of the model"]
KINDS = ["plain", "accumulate", "amp", "clip", "ema", "scheduler", "deepcopy", "pickle", "save", "resume"]


def device(kind):
    return "cuda" if kind == "amp" and torch.cuda.is_available() else "cpu"


def network(kind):
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3)).to(device(kind))


def micro_batches(kind):
    generator = torch.Generator().manual_seed(1)
    for _ in range(STEPS):
        batches = [
            (torch.randn(8, 6, generator=generator), torch.randint(3, (8,), generator=generator))
            for _ in range(2 if kind == "accumulate" else 1)
        ]
        yield [(x.to(device(kind)), y.to(device(kind))) for x, y in batches]


def flat(model):
    return torch.cat([p.detach().flatten() for p in model.parameters()])


def precision(kind):
    if kind != "amp":
        return nullcontext()
    return torch.autocast(device(kind), torch.float16 if device(kind) == "cuda" else torch.bfloat16)


def average(model):
    return AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.5))


def reference(inner, kind):
    """Train at θ + ξ as the definition says; yield the clean weights after each step, and their average."""
    model = network(kind)
    optimizer, noise, mean = inner(model.parameters()), Perturbation(B, seed=SEED), average(model)
    scheduler = StepLR(optimizer, 1, 0.5)
    for batches in micro_batches(kind):

        def closure(batches=batches):
            optimizer.zero_grad()
            noise.apply(model.parameters())
            for x, y in batches:
                with precision(kind):
                    loss = cross_entropy(model(x), y) / len(batches)
                loss.backward()
            noise.restore()
            if kind == "clip":
                clip_grad_norm_(model.parameters(), 0.1)
            return loss

        optimizer.step(closure)
        mean.update_parameters(model)
        if kind == "scheduler":
            scheduler.step()
        yield flat(model), flat(mean)


class Loop:
    """The same training by NVRM, its calls in a given order; it looks at the weights after each of them."""

    def __init__(self, inner, order, kind, compiled=""):
        self.order, self.kind, self.inner = order, kind, inner
        self.model = network(kind)
        self.optimizer = NVRM(inner(self.model.parameters()), B, seed=SEED)
        self.scheduler = StepLR(self.optimizer, 1, 0.5)
        self.mean = average(self.model)
        self.scaler = torch.amp.GradScaler(device(kind), init_scale=8.0)
        self.compiled = compiled
        self.prepare()

    def prepare(self):
        self.forward = self.model
        if self.compiled == "wrapped":
            self.forward = torch.compile(self.model, backend="aot_eager", fullgraph=True)
        elif self.compiled == "in place":
            self.model.compile(backend="aot_eager", fullgraph=True)
        self.scaled = self.kind == "amp" and not isinstance(self.optimizer.inner, torch.optim.LBFGS)

    def zero_grad(self, place):
        if place == self.order:
            (self.model if place == "zero_grad of the model" else self.optimizer).zero_grad()
            self.check_clean()

    def check_clean(self):
        assert torch.equal(flat(self.model), self.clean)
        assert torch.equal(torch.cat([t.flatten() for t in self.model.state_dict().values()]), self.clean)

    def passes(self, batches):
        self.zero_grad("zero_grad first")
        self.zero_grad("zero_grad of the model")
        for i, (x, y) in enumerate(batches):
            with precision(self.kind):
                output = self.forward(x)
                loss = cross_entropy(output, y) / len(batches)
                with torch.no_grad():
                    assert not torch.allclose(output, self.forward(x))  # in training mode, without gradients
                    self.model.eval()
                    assert not torch.allclose(output, self.forward(x))
                    self.model.train()
            self.check_clean()
            if i == 0:
                self.zero_grad("zero_grad between")
            (self.scaler.scale(loss) if self.scaled else loss).backward()
            self.check_clean()
        if self.scaled:
            self.scaler.unscale_(self.optimizer)
        if self.kind == "clip":
            clip_grad_norm_(self.model.parameters(), 0.1)
        return loss

    def train(self):
        """Yield as ``reference`` does."""
        for number, batches in enumerate(micro_batches(self.kind)):
            self.clean = flat(self.model)
            if isinstance(self.optimizer.inner, torch.optim.LBFGS):
                with torch.no_grad():  # any optimizer enables gradients for its closure
                    self.optimizer.step(lambda batches=batches: self.passes_in_a_closure(batches))
            else:
                self.passes(batches)
                if self.scaled:
                    self.scaler.step(self.optimizer)
                    self.scaler.update()
                else:
                    self.optimizer.step()
            self.clean = flat(self.model)
            self.zero_grad("zero_grad last")
            self.check_clean()
            self.mean.update_parameters(self.model)
            if self.kind == "scheduler":
                self.scheduler.step()
            yield flat(self.model), flat(self.mean)
            if number == 1:
                self.come_back()

    def passes_in_a_closure(self, batches):
        self.zero_grad_quietly("zero_grad first", "zero_grad of the model")
        for i, (x, y) in enumerate(batches):
            assert not torch.equal(flat(self.model), self.clean)
            with precision(self.kind):
                loss = cross_entropy(self.forward(x), y) / len(batches)
            if i == 0:
                self.zero_grad_quietly("zero_grad between")
            loss.backward()
        if self.kind == "clip":
            clip_grad_norm_(self.model.parameters(), 0.1)
        return loss

    def zero_grad_quietly(self, *places):
        if self.order in places:
            (self.model if self.order == "zero_grad of the model" else self.optimizer).zero_grad()

    def come_back(self):
        """Go on with a copy of model and optimizer, a scheduler attached to the latter."""
        pair, buffer = (self.model, self.optimizer), io.BytesIO()
        match self.kind:
            case "deepcopy":
                self.model, self.optimizer = copy.deepcopy(pair)
            case "pickle":
                self.model, self.optimizer = pickle.loads(pickle.dumps(pair))
            case "save":
                torch.save(pair, buffer)
                buffer.seek(0)
                self.model, self.optimizer = torch.load(buffer, weights_only=False)
            case "resume":
                torch.save([part.state_dict() for part in pair], buffer)
                buffer.seek(0)
                model, optimizer = torch.load(buffer, weights_only=True)
                self.model = network(self.kind)
                self.optimizer = NVRM(self.inner(self.model.parameters()), B, seed=99)
                self.model.load_state_dict(model)
                self.optimizer.load_state_dict(optimizer)
        self.left, self.left_as = pair[0], flat(pair[0])
        self.prepare()


def check(loop, inner, kind, same=torch.equal):
    for (weights, mean), (expected, expected_mean) in zip(loop.train(), reference(inner, kind), strict=True):
        assert same(weights, expected)
        assert same(mean, expected_mean) or kind in ("deepcopy", "pickle", "save", "resume")
    if loop.model is not loop.left:
        assert torch.equal(flat(loop.left), loop.left_as)  # nobody stepped the original


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("inner", INNER.values(), ids=INNER.keys())
def test_every_loop_is_the_reference(inner, order, kind):
    check(Loop(inner, order, kind), inner, kind, torch.equal if device(kind) == "cpu" else torch.allclose)


@pytest.mark.slow
@pytest.mark.parametrize("compiled", ["wrapped", "in place"])
@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("inner", INNER.values(), ids=INNER.keys())
def test_every_compiled_loop_is_the_reference(inner, order, compiled):
    torch._dynamo.reset()
    check(Loop(inner, order, "plain", compiled), inner, "plain", torch.allclose)
