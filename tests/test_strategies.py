"""What every strategy in the catalog must keep, alone and in pairs."""

import itertools

import pytest
import torch

from cl_nvrm import data
from cl_nvrm.errors import UserError
from cl_nvrm.spec import catalog, grammar
from cl_nvrm.training.train import run_one

NAMES = catalog.names("strategies")
PAIRS = ["+".join(pair) for pair in itertools.combinations([n for n in NAMES if n != grammar.NEUTRAL], 2)]
# SAM's second pass cannot repeat what these add to the loss, and says so.
REFUSED = (
    {
        "+".join(sorted((sam, other))): "sam and asam cannot repeat what another plug-in adds"
        for sam in ("sam", "asam")
        for other in ("der", "derpp", "er-ace", "feature-distillation", "jacobian", "lwf", "nsr")
    }
    | {
        "+".join(sorted(("randumb", other))): "nothing can be added to"
        for other in NAMES
        if other not in ("naive", "randumb")
    }
    | {
        f"er-ace+{noise}": "er-ace leaves classes that do not occur in a batch out of its loss"
        for noise in ("label-noise", "squared-label-noise")
    }
    | {"cumulative+joint": "each say which data to train on"}
    | {f"{bound}+replay": "leave out replay" for bound in ("cumulative", "joint")}
)
# Refused with several heads, which test_bounds shows.
ONE_HEAD = {"+".join(sorted((bound, penalty))) for bound in ("cumulative", "joint") for penalty in ("ewc", "mas")}

# Of the pairs, a ring through all names is always tried; the others are slow.
_RING = [n for n in NAMES if n != grammar.NEUTRAL]
EACH_TWICE = {"+".join(sorted(pair)) for pair in zip(_RING, [*_RING[1:], _RING[0]], strict=True)}

# Each alone with one head or with several, where the other of the two is slow; pairs, of which there are many, on less,
# in turn with the one or the other.
BENCHMARKS = ["toy", "toy:heads=true"]
SMALL = ["toy:tasks=2,samples=256", "toy:tasks=2,samples=256,heads=true"]
WATCHED = "random-labels:p=0,subset=600,validation=100,model=mlp(width=64,depth=1)"  # what early stopping needs
CASES = [
    *(
        pytest.param(name, benchmark, marks=pytest.mark.slow if (number + k) % 2 else ())
        for number, name in enumerate(NAMES)
        for k, benchmark in enumerate(BENCHMARKS)
    ),
    *(
        pytest.param(
            pair, SMALL[0 if pair in ONE_HEAD else number % 2], marks=() if pair in EACH_TWICE else pytest.mark.slow
        )
        for number, pair in enumerate(PAIRS)
        if pair not in REFUSED
    ),
]


@pytest.fixture
def spec_of(toy_spec):
    def make(strategy, benchmark):
        if "early-stopping" not in strategy:
            return toy_spec(strategy, benchmark=benchmark, epochs=3, lr=0.01)
        digits = {"dataset": "digits", "dataset_sha256": data.load("digits").sha256}
        return toy_spec(strategy, benchmark=WATCHED, epochs=8, lr=0.003, **digits)

    return make


@pytest.mark.parametrize(("strategy", "benchmark"), CASES)
def test_it_trains_repeatably_and_learns(strategy, benchmark, spec_of):
    spec = spec_of(strategy, benchmark)
    first, second = (run_one(spec, threads=1) for _ in range(2))
    assert first.status == "done"
    assert first.provenance["weights_sha256"] == second.provenance["weights_sha256"]
    assert first.accuracy == second.accuracy
    assert first.accuracy[0][0] > (0.8 if spec.dataset == "synthetic" else 0.4)


@pytest.mark.parametrize("strategy", sorted(REFUSED))
@pytest.mark.parametrize("benchmark", SMALL)
def test_what_cannot_be_combined_is_refused(strategy, benchmark, spec_of):
    with pytest.raises(UserError, match=REFUSED[strategy]):
        run_one(spec_of(strategy, benchmark), threads=1)


@pytest.mark.parametrize("strategy", NAMES)
def test_it_leaves_the_global_random_state_to_the_run(strategy):
    """Building a plug-in draws nothing: its randomness is its own."""
    (term,) = grammar.parse_sum(strategy)
    before = torch.get_rng_state()
    term.make(seed=0)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("strategy", NAMES)
def test_two_plug_ins_share_no_state(strategy):
    (term,) = grammar.parse_sum(strategy)
    one, other = term.make(seed=0), term.make(seed=0)
    assert one is None or one is not other


@pytest.mark.parametrize("strategy", [name for name in NAMES if name != "early-stopping"])
def test_its_weights_are_clean_whenever_they_are_evaluated(strategy, train_toy):
    (term,) = grammar.parse_sum(strategy)
    plugin = term.make(seed=0)
    run, model = train_toy([p for p in [plugin] if p is not None])
    perturbation = getattr(plugin, "perturbation", None)
    assert perturbation is None or not perturbation.active
    assert {"training_epoch", "forward"} & set(vars(run)) == set()
    assert all(bool(torch.isfinite(p).all()) for p in model.parameters())
