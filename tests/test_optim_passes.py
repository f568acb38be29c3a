"""Which forward passes see noise, in networks of all kinds, and that a use which cannot be made right is an error."""

import copy
import gc
import pickle
import threading

import pytest
import torch
from torch import nn
from torch.func import functional_call, grad, vmap
from torch.nn.functional import linear
from torch.nn.utils import prune
from torch.utils.checkpoint import checkpoint

from cl_nvrm.noise import Perturbation
from cl_nvrm.optim import NVRM, NVRMSGD


def flat(model):
    return torch.cat([p.detach().flatten() for p in model.parameters()])


class Tied(nn.Module):
    """Reads a weight outside of its layer's own forward pass."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(6, 6, bias=False)

    def forward(self, x):
        return linear(self.layer(x), self.layer.weight)


class Last(nn.Module):
    """A recurrent network's last answer."""

    def __init__(self, rnn):
        super().__init__()
        self.rnn = rnn

    def forward(self, x):
        return self.rnn(x.unflatten(-1, (3, 2)))[0][:, -1]


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.attention = nn.MultiheadAttention(6, 2, batch_first=True)

    def forward(self, x):
        return self.attention(x[None], x[None], x[None])[0][0]


class Checkpointed(nn.Module):
    def __init__(self, reentrant):
        super().__init__()
        self.first, self.second, self.reentrant = nn.Linear(6, 6), nn.Linear(6, 6), reentrant

    def forward(self, x):
        hidden = checkpoint(self.first, x.requires_grad_(), use_reentrant=self.reentrant).tanh()
        return checkpoint(self.second, hidden, use_reentrant=self.reentrant)


class Sparse(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(7, 3, sparse=True)

    def forward(self, x):
        return self.embedding((x > 0).sum(-1))


def shared_storage():
    model = nn.Sequential(nn.Linear(6, 6), nn.Linear(6, 6))
    model[1].weight = nn.Parameter(model[0].weight.data)
    return model


NETWORKS = {
    "one layer": lambda: nn.Linear(6, 2),
    "tied": Tied,
    "the same layer twice": lambda: nn.Sequential(*[nn.Linear(6, 6)] * 2),
    "shared storage": shared_storage,
    "lstm": lambda: Last(nn.LSTM(2, 3)),
    "gru": lambda: Last(nn.GRU(2, 3)),
    "attention": Attention,
    "sparse gradients": Sparse,
    "checkpointed": lambda: Checkpointed(reentrant=False),
    "checkpointed, reentrant": lambda: Checkpointed(reentrant=True),
    "batch norm": lambda: nn.Sequential(nn.Linear(6, 6), nn.BatchNorm1d(6)),
    "weight norm": lambda: nn.utils.parametrizations.weight_norm(nn.Linear(6, 6)),
    "pruned": lambda: prune.l1_unstructured(nn.Linear(6, 6), "weight", 0.3),
    "channels last": lambda: nn.Sequential(
        nn.Unflatten(1, (6, 1, 1)), nn.Conv2d(6, 4, 3, padding=1).to(memory_format=torch.channels_last)
    ),
    "bfloat16": lambda: nn.Linear(6, 2).to(torch.bfloat16),
}


def _listening(model, x):
    if not model._backward_hooks:
        model.register_full_backward_hook(lambda *_: None)
    return model(x.clone().requires_grad_())


def _slope(model, x):
    x = x.clone().requires_grad_()
    return torch.autograd.grad(model(x).sum(), x, create_graph=True)[0]


USES = {
    "called": lambda model, x: model(x),
    "its forward method": lambda model, x: model.forward(x),
    "functional_call": lambda model, x: functional_call(model, dict(model.named_parameters()), x),
    "vmap": lambda model, x: vmap(model)(x),
    "slope by torch.func": lambda model, x: vmap(grad(lambda one: model(one).sum()))(x),
    "slope": _slope,
    "with backward hooks": _listening,
}


@pytest.mark.parametrize("use", USES.values(), ids=USES.keys())
def test_networks_used_in_any_way_take_the_step_of_the_noisy_gradient(use):
    check(lambda: nn.Sequential(nn.Linear(6, 4), nn.Tanh(), nn.Linear(4, 2)), use)


@pytest.mark.parametrize("make", NETWORKS.values(), ids=NETWORKS.keys())
def test_networks_of_all_kinds_take_the_step_of_the_noisy_gradient(make):
    check(make, lambda model, x: model(x))


def check(make, use):
    model, by_hand = (torch.manual_seed(0) and make() for _ in range(2))
    x = torch.randn(5, 6).to(next(model.parameters()).dtype)
    optimizer = NVRMSGD(model.parameters(), lr=0.1, variability=0.3, seed=2)
    plain, noise = torch.optim.SGD(by_hand.parameters(), lr=0.1), Perturbation(0.3, seed=2)
    for _ in range(3):
        before = flat(model)
        use(model, x).square().sum().backward()
        assert torch.equal(flat(model), before)
        optimizer.step()
        optimizer.zero_grad()
        with noise.around(by_hand.parameters()):
            use(by_hand, x).square().sum().backward()
        plain.step()
        plain.zero_grad()
        assert torch.equal(flat(model), flat(by_hand)) and not torch.equal(flat(model), before)
        if isinstance(model, Last):
            copy.deepcopy(model)  # whose lists of weights would keep what a pass put there


def test_methods_beside_forward_see_noise_layer_by_layer():
    model = nn.ModuleDict({"encoder": nn.Linear(6, 4), "decoder": nn.Linear(4, 6)})
    optimizer = NVRMSGD(model.parameters(), lr=0.1, variability=0.3)
    x = torch.randn(5, 6)
    assert not torch.equal(model["encoder"](x), linear(x, model["encoder"].weight, model["encoder"].bias))
    (model["decoder"](model["encoder"](x)) - x).square().sum().backward()
    optimizer.step()


def test_evaluation_sees_clean_weights_with_and_without_gradients():
    model = nn.Sequential(nn.Linear(6, 4), nn.BatchNorm1d(4), nn.Dropout())
    optimizer = NVRMSGD(model.parameters(), variability=0.3)
    x = torch.randn(5, 6)
    expected = copy.deepcopy(model).eval()(x)
    model.eval()
    model[2].p, _ = 0.0, model[2].train()  # Monte-Carlo dropout
    assert torch.equal(model(x), expected)
    with torch.no_grad():
        assert torch.equal(model.train()[0](x), copy.deepcopy(model[0])(x))
    with torch.inference_mode():
        assert torch.equal(model[0](x), copy.deepcopy(model[0])(x))
    del optimizer


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_weights_are_clean_after_a_pass_that_fails_or_is_abandoned(error):
    class Fails(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer, self.broken = nn.Linear(6, 2), False

        def forward(self, x):
            if self.broken:
                raise error
            return self.layer(x)

    model = Fails()
    optimizer = NVRMSGD(model.parameters(), lr=0.1, variability=0.3)
    before, x = copy.deepcopy(model.state_dict()), torch.randn(5, 6)
    model(x)  # no backward pass
    model.broken = True
    with pytest.raises(error):
        model(x)
    assert all(isinstance(p, nn.Parameter) for p in model.parameters())
    assert all(torch.equal(t, before[name]) for name, t in model.state_dict().items())
    model.broken = False
    assert not torch.equal(model(x), copy.deepcopy(model)(x))  # the next pass is noisy again
    del optimizer


def test_a_step_that_is_left_out_takes_its_noise_with_it():
    model, x = nn.Linear(6, 2), torch.randn(5, 6)
    optimizer = NVRMSGD(model.parameters(), lr=0.1, variability=0.3)
    seen = []
    for _ in range(3):
        optimizer.zero_grad()
        output = model(x)
        assert torch.equal(model(x), output)  # within a step, the same
        output.sum().backward()
        seen.append(output.detach())
    assert not torch.equal(seen[0], seen[1]) and not torch.equal(seen[1], seen[2])


def test_weights_that_are_moved_within_a_step_are_seen_where_they_are():
    """As sharpness-aware minimisation moves them, in any of the three ways in which it is written."""
    model, x = nn.Linear(6, 2, bias=False), torch.randn(5, 6)
    optimizer = NVRMSGD(model.parameters(), lr=0.1, variability=0.3)
    first = model(x)
    assert not torch.allclose(first, linear(x, model.weight))
    first.sum().backward()
    shift = torch.full((2, 6), 0.5)
    with torch.no_grad():
        model.weight.add_(shift)
    torch.testing.assert_close(model(x), first + x @ shift.T)
    model(x).sum().backward()
    model.weight.data.sub_(shift)
    torch.testing.assert_close(model(x), first)
    model.weight.data = model.weight.data + shift
    torch.testing.assert_close(model(x), first + x @ shift.T)
    del optimizer


def test_a_graph_that_is_kept_keeps_its_noise_and_one_from_before_the_step_is_refused():
    model, x = nn.Sequential(nn.Linear(6, 4), nn.Linear(4, 1)), torch.randn(5, 6)
    optimizer = NVRMSGD(model.parameters(), lr=0.1, variability=0.3)
    kept = model(x).sum()
    kept.backward(retain_graph=True)
    once = model[0].weight.grad.clone()
    model(2 * x).sum().backward()
    optimizer.zero_grad()
    kept.backward()
    assert torch.equal(model[0].weight.grad, once)
    old = model(x).sum()
    optimizer.step()
    model(x)
    with pytest.raises(RuntimeError, match="inplace"):  # as in plain torch, once the weights have moved
        old.backward()


def test_gradients_by_autograd_grad_and_their_own_gradients_come_through():
    model, by_hand = nn.Linear(6, 1), nn.Linear(6, 1)
    by_hand.load_state_dict(model.state_dict())
    optimizer, noise = NVRM(torch.optim.SGD(model.parameters(), lr=0.1), 0.3, seed=1), Perturbation(0.3, seed=1)
    x = torch.randn(5, 6)

    def penalised(net):
        loss = net(x).square().sum()
        gradients = torch.autograd.grad(loss, list(net.parameters()), create_graph=True)
        return torch.autograd.grad(sum(g.square().sum() for g in gradients), list(net.parameters()))

    found = penalised(model)
    with noise.around(by_hand.parameters()):
        expected = penalised(by_hand)
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))
    for p, g in zip(model.parameters(), found, strict=True):
        p.grad = g
    optimizer.step()


def test_two_optimizers_share_a_network_and_of_two_on_one_weight_the_last_one_counts():
    model, x = nn.Sequential(nn.Linear(6, 4), nn.Linear(4, 1)), torch.randn(5, 6)
    parts = [NVRMSGD(layer.parameters(), lr=0.1, variability=0.3, seed=i) for i, layer in enumerate(model)]
    noises = [Perturbation(0.3, seed=i) for i in range(2)]
    for _ in range(2):
        with noises[0].around(model[0].parameters()), noises[1].around(model[1].parameters()), torch.no_grad():
            expected = model(x)
        output = model(x)
        assert torch.equal(output, expected)
        output.sum().backward()
        for part in parts:
            part.step()
            part.zero_grad()
    fresh = NVRMSGD(model.parameters(), lr=0.1, variability=0.3, seed=7)  # a new one for a new task, the old ones kept
    with Perturbation(0.3, seed=7).around(model.parameters()), torch.no_grad():
        expected = model(x)
    output = model(x)
    assert torch.equal(output, expected)
    output.sum().backward()
    fresh.step()


def test_threads_do_not_share_a_pass():
    model, x = nn.Sequential(nn.Linear(6, 2), nn.Identity()), torch.randn(5, 6)
    other = nn.Linear(6, 2)
    optimizers = [NVRMSGD(m.parameters(), variability=0.3) for m in (model, other)]
    noisy = []

    def elsewhere(*_):
        thread = threading.Thread(target=lambda: noisy.append(not torch.equal(other(x), copy.deepcopy(other)(x))))
        thread.start()
        thread.join()

    model[1].register_forward_hook(elsewhere)
    model(x)
    assert noisy == [True]
    del optimizers


def test_a_network_is_saved_and_copied_without_the_optimizer():
    model, x = nn.Linear(6, 2), torch.randn(5, 6)
    optimizer = NVRMSGD(model.parameters(), lr=0.1, variability=0.3)
    model(x).sum().backward()
    optimizer.step()
    assert b"cl_nvrm" not in pickle.dumps(model)
    twin = copy.deepcopy(model)
    assert torch.equal(twin(x), twin.eval()(x))


def test_a_network_that_is_recorded_has_no_noise_in_it_and_none_is_left_once_the_optimizer_goes():
    model, x = nn.Sequential(nn.Linear(6, 4), nn.Tanh()), torch.randn(5, 6)
    optimizer = NVRMSGD(model.parameters(), lr=0.1, variability=0.3)
    clean = copy.deepcopy(model)(x)
    for recorded in (torch.fx.symbolic_trace(model), torch.export.export(model, (x,)).module()):
        with torch.no_grad():
            assert torch.equal(recorded(x), clean)
    assert not torch.equal(model(x), clean)
    del optimizer
    gc.collect()
    assert torch.equal(model(x), clean)


# What cannot be made right


def _in_evaluation_mode(model, x):
    return model.eval()(x)


def _past_the_module(model, x):
    return linear(x, model.weight, model.bias)


def _compiled_around_the_module(model, x):
    return torch.compile(lambda x: model(x), backend="eager")(x)


def _in_a_script(model, x):
    return torch.jit.trace(model, x)(x)


@pytest.mark.filterwarnings("ignore:.torch.jit.trace:FutureWarning")
@pytest.mark.parametrize("use", [_in_evaluation_mode, _past_the_module, _compiled_around_the_module, _in_a_script])
def test_a_gradient_at_clean_weights_is_refused_and_right_in_a_block(use):
    model, x = nn.Linear(6, 2), torch.randn(5, 6)
    optimizer = NVRMSGD(model.parameters(), lr=0.1, variability=0.3, seed=1)
    before = flat(model)
    use(model, x).square().sum().backward()
    with pytest.raises(RuntimeError, match=r"without noise.*optimizer\.noisy"):
        optimizer.step()
    assert torch.equal(flat(model), before)
    optimizer.zero_grad()
    with optimizer.noisy():
        use(model, x).square().sum().backward()
    optimizer.step()
    expected = nn.Linear(6, 2)
    nn.utils.vector_to_parameters(before.clone(), expected.parameters())
    with Perturbation(0.3, seed=1).around(expected.parameters()):
        expected(x).square().sum().backward()
    torch.optim.SGD(expected.parameters(), lr=0.1).step()
    torch.testing.assert_close(flat(model), flat(expected))


def test_one_weight_among_many_that_saw_no_noise_is_enough():
    model, temperature = nn.Linear(6, 2), nn.Parameter(torch.ones(()))
    optimizer = NVRMSGD([*model.parameters(), temperature], lr=0.1, variability=0.3)
    (model(torch.randn(5, 6)) / temperature).square().sum().backward()
    with pytest.raises(RuntimeError, match=r"of a weight of shape \(\) "):
        optimizer.step()


def test_a_penalty_in_the_loop_reads_clean_weights_and_says_so_or_is_in_a_block():
    model, x = nn.Linear(6, 2), torch.randn(5, 6)
    optimizer = NVRMSGD(model.parameters(), lr=0.1, variability=0.3, seed=1)

    def penalised(net):
        return net(x).square().sum() + net.weight.abs().sum()

    penalised(model).backward()
    with pytest.warns(UserWarning, match=r"optimizer\.noisy"):
        optimizer.step()
    optimizer.zero_grad()
    expected, noise = copy.deepcopy(model), Perturbation(0.3, seed=1)
    noise.draw(model.parameters())  # of the first step
    with noise.around(expected.parameters()):
        penalised(expected).backward()
    torch.optim.SGD(expected.parameters(), lr=0.1).step()
    with optimizer.noisy():
        penalised(model).backward()
    optimizer.step()
    assert torch.equal(flat(model), flat(expected))


def test_hooks_that_change_gradients_are_not_taken_for_a_penalty():
    model, x = nn.Linear(6, 2), torch.randn(5, 6)
    model.weight.register_hook(lambda gradient: 2 * gradient)
    optimizer = NVRMSGD(model.parameters(), lr=0.1, variability=0.3)
    model(x).sum().backward()
    optimizer.step()


def test_gradients_at_clean_weights_are_nobodys_business_where_they_are_not_stepped():
    """As of a Fisher information in evaluation mode; and a weight may be given a gradient by hand."""
    model, unused = nn.Linear(6, 2), nn.Parameter(torch.ones(3))
    optimizer = NVRMSGD([*model.parameters(), unused], lr=0.1, variability=0.3)
    model.eval()(torch.randn(5, 6)).sum().backward()
    model.train().zero_grad()
    model(torch.randn(5, 6)).sum().backward()
    unused.grad = torch.ones(3)
    optimizer.step()
    torch.testing.assert_close(unused.detach(), torch.full((3,), 0.9))


def test_gradients_may_be_put_together_by_hand():
    """As by methods that make peace between the gradients of several tasks."""
    model, x = nn.Linear(6, 2), torch.randn(5, 6)
    optimizer = NVRMSGD(model.parameters(), lr=0.1, variability=0.3)
    found = []
    for column in range(2):
        optimizer.zero_grad()
        model(x)[:, column].sum().backward()
        found.append([p.grad.clone() for p in model.parameters()])
    optimizer.zero_grad()
    for p, *each in zip(model.parameters(), *found, strict=True):
        p.grad = sum(each)
    optimizer.step()


def test_a_gradient_by_hand_without_any_pass_is_refused():
    model = nn.Linear(6, 2)
    optimizer = NVRMSGD(model.parameters(), lr=0.1, variability=0.3)
    optimizer.step()  # no gradients: nothing to do, as in torch
    model.weight.grad = torch.ones(2, 6)
    with pytest.raises(RuntimeError, match="without noise"):
        optimizer.step()


def test_it_can_be_saved_in_the_middle_of_a_step():
    model, x = nn.Linear(6, 2), torch.randn(5, 6)
    optimizer = NVRMSGD(model.parameters(), lr=0.1, variability=0.3)
    output = model(x)
    twin, resumed = nn.Linear(6, 2), None
    twin.load_state_dict(model.state_dict())
    resumed = NVRMSGD(twin.parameters(), lr=0.1, variability=0.3, seed=9)
    resumed.load_state_dict(optimizer.state_dict())
    assert torch.equal(twin(x), output)
