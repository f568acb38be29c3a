"""Number format, layout and compilation change how a network is computed and not which one it is."""

import shutil

import pytest
import torch

from cl_nvrm.errors import UserError
from cl_nvrm.models.mlp import MLP
from cl_nvrm.models.small_cnn import model as small_cnn
from cl_nvrm.training.precision import prepare_network
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
