"""Number format, layout and compilation change how a network is computed and not which one it is."""

import shutil
from itertools import product
from typing import get_args, get_type_hints

import pytest
import torch

from cl_nvrm import data
from cl_nvrm.analysis import ways
from cl_nvrm.analysis.implicit_regulariser import implicit_regulariser
from cl_nvrm.errors import UserError
from cl_nvrm.models.mlp import MLP
from cl_nvrm.models.small_cnn import model as small_cnn
from cl_nvrm.plugins.fisher import diagonal_fisher
from cl_nvrm.plugins.mas import output_sensitivity
from cl_nvrm.spec import RunSpec, catalog
from cl_nvrm.training.precision import prepare_network
from cl_nvrm.training.stack import run_stack, stackable
from cl_nvrm.training.train import run_one

PLAIN = {"precision": "float32", "channels_last": False, "compiled": False}


def network():
    torch.manual_seed(0)
    return small_cnn((3, 16, 16), 10, width=8)


def test_nothing_asked_is_nothing_done():
    net = network()
    assert prepare_network(net, **PLAIN) is net


def test_channels_last_computes_the_same_up_to_rounding():
    x = torch.randn(4, 3, 16, 16)
    laid_out = prepare_network(network(), **PLAIN | {"channels_last": True})
    torch.testing.assert_close(laid_out(x), network()(x), rtol=1e-4, atol=1e-5)
    first = next(m for m in laid_out.modules() if isinstance(m, torch.nn.Conv2d))
    assert first.weight.is_contiguous(memory_format=torch.channels_last)


def test_bfloat16_computes_in_it_and_keeps_float32_weights_and_logits():
    x = torch.randn(4, 3, 16, 16)
    reduced = prepare_network(network(), **PLAIN | {"precision": "bfloat16"})
    inside = []
    next(m for m in reduced.modules() if isinstance(m, torch.nn.Linear)).register_forward_hook(
        lambda module, arguments, out: inside.append(out.dtype)
    )
    logits = reduced(x)
    assert inside == [torch.bfloat16] and logits.dtype == torch.float32
    assert {p.dtype for p in reduced.parameters()} == {torch.float32}
    torch.testing.assert_close(logits, network()(x), rtol=0.1, atol=0.05)
    logits.sum().backward()
    assert all(p.grad.dtype == torch.float32 for p in reduced.parameters())


@pytest.mark.parametrize("option", [{"precision": "bfloat16"}, {"channels_last": True}])
def test_a_run_records_how_it_was_computed(toy_spec, option):
    plain, other = run_one(toy_spec("nvrm")), run_one(toy_spec("nvrm", **option))
    assert other.status == "done" and other.id != plain.id
    assert other.accuracy[0][0] > 0.7
    assert {name: getattr(other.spec, name) for name in option} == option


@pytest.mark.slow
@pytest.mark.skipif(not (shutil.which("g++") or shutil.which("clang++")), reason="torch.compile needs a C++ compiler")
def test_a_compiled_network_sees_the_noise_on_its_weights(toy_spec):
    """The compiled code must read the weights of the moment, not those it was compiled with."""
    from cl_nvrm.noise import weight_noise

    net = MLP(6, 3, width=8)
    x = torch.randn(5, 6)
    made = prepare_network(net, **PLAIN | {"compiled": True})
    clean = made(x)
    with weight_noise(net, 0.5):
        noisy, expected = made(x), net.forward(x)
    torch.testing.assert_close(noisy, expected, rtol=1e-4, atol=1e-5)
    assert (noisy - clean).abs().max() > 0.05
    torch.testing.assert_close(made(x), clean)


TOY = "toy:tasks=2,samples=32,width=8"
NETWORKS = {
    "layers": "small-cnn(width=4)",
    "normalised": "ioc-mlp(width=8)",
    "normalised convolutions": "small-cnn(width=4,batch_norm=true)",
}
PRECISIONS = get_args(get_type_hints(RunSpec)["precision"])


def watched(network):
    """A benchmark for all strategies, early stopping among them, with the data that go with it."""
    text = f"random-labels:p=0,subset=48,validation=32,model={network}"
    return {"benchmark": text, "dataset": "digits", "dataset_sha256": data.load("digits").sha256, "batch_size": 16}


@pytest.mark.parametrize("strategy", catalog.names("strategies"))
def test_every_strategy_runs_in_bfloat16(toy_spec, strategy):
    where = watched(NETWORKS["layers"]) if strategy == "early-stopping" else {"benchmark": TOY}
    result = run_one(toy_spec(strategy, precision="bfloat16", epochs=1, **where), threads=1)
    assert result.status == "done" and len(result.accuracy) == (1 if strategy == "early-stopping" else 2)


# A quarter of all combinations: every strategy on every network; precision and memory format take turns.
WAYS = list(product(PRECISIONS, (False, True)))
COMBINATIONS = [
    pytest.param(strategy, NETWORKS[name], *WAYS[(number + place) % len(WAYS)], id=f"{strategy}-{name}")
    for number, strategy in enumerate(catalog.names("strategies"))
    for place, name in enumerate(NETWORKS)
]


@pytest.mark.slow
@pytest.mark.parametrize(("strategy", "network", "precision", "channels_last"), COMBINATIONS)
def test_every_strategy_runs_in_every_precision_on_every_kind_of_network(
    toy_spec, strategy, network, precision, channels_last
):
    spec = toy_spec(strategy, precision=precision, channels_last=channels_last, epochs=1, **watched(network))
    assert run_one(spec, threads=1).status == "done"


@pytest.mark.slow
@pytest.mark.parametrize("strategy", catalog.names("strategies"))
def test_every_strategy_that_can_be_stacked_runs_in_bfloat16_so(toy_spec, strategy):
    specs = [toy_spec(strategy, precision="bfloat16", epochs=1, benchmark=TOY, seed=seed) for seed in range(2)]
    if stackable(specs[0]):
        assert [result.status for result in run_stack(specs, threads=1)] == ["done", "done"]


MAKE = {
    "layers": lambda: MLP(64, 3, width=8),
    "convolutions": lambda: small_cnn((1, 8, 8), 3, width=4),
    "normalised": lambda: small_cnn((1, 8, 8), 3, width=4, batch_norm=True),
}


@pytest.mark.parametrize("make", MAKE.values(), ids=MAKE)
def test_importances_in_bfloat16_are_those_of_a_loop_over_samples(make, capsys):
    ways._tell_once.cache_clear()
    torch.manual_seed(0)
    model = prepare_network(make(), **PLAIN | {"precision": "bfloat16"})
    x, y, weights = torch.randn(6, 1, 8, 8), torch.arange(6) % 3, dict(model.named_parameters())

    def by_hand(size, scores):
        total = {name: torch.zeros_like(p) for name, p in weights.items()}
        for one, label in zip(x.split(1), y.split(1), strict=True):
            for score in scores(model.eval()(one), label):
                for name, g in zip(
                    weights, torch.autograd.grad(score, weights.values(), retain_graph=True), strict=True
                ):
                    total[name] += size(g) / 6
        return total

    batch = [x, y, torch.zeros(6, dtype=torch.long)]
    fisher = by_hand(torch.square, lambda outputs, label: [torch.nn.functional.cross_entropy(outputs, label)])
    sensitivity = by_hand(torch.abs, lambda outputs, label: [outputs.square().sum()])
    for found, expected in (
        (diagonal_fisher(model, [batch], "empirical"), fisher),
        (output_sensitivity(model, [batch]), sensitivity),
    ):
        for name, sums in expected.items():
            assert float((found[name] - sums).norm()) < 0.03 * float(sums.norm()), name
    every = by_hand(torch.square, lambda outputs, label: outputs.flatten())
    assert implicit_regulariser(model, x) == pytest.approx(sum(float(t.sum()) for t in every.values()), rel=0.03)
    assert "one sample at a time" not in capsys.readouterr().err


def test_networks_with_several_heads_are_refused(toy_spec):
    with pytest.raises(UserError, match="single head"):
        run_one(toy_spec(benchmark="toy:heads=true", channels_last=True))


def test_what_is_asked_for_is_done():
    seen = []
    laid_out = prepare_network(network(), **PLAIN | {"channels_last": True})
    laid_out.network.register_forward_pre_hook(lambda module, given: seen.append(given[0]))
    laid_out(torch.randn(4, 3, 16, 16))
    assert seen[0].is_contiguous(memory_format=torch.channels_last) and not seen[0].is_contiguous()
    assert prepare_network(network(), **PLAIN | {"compiled": True}).network._compiled_call_impl is not None
