"""However a spec is written by hand, the run it means has one id, that of the command; or it is refused."""

import random
from dataclasses import asdict, replace
from decimal import Decimal
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from cl_nvrm.errors import UserError
from cl_nvrm.spec import RunResult, RunSpec, catalog, grammar
from cl_nvrm.spec.canonical import canonical
from cl_nvrm.sweep.store import Store
from cl_nvrm.sweep.sweep import Workers, sweep
from cl_nvrm.training.train import run_one

NAMES = [name for name in catalog.names("strategies") if name != "naive"]


@st.composite
def values(draw, parameter):
    """Draw a value of a parameter's type."""
    from cl_nvrm.spec.annotations import choices

    allowed, default = choices(parameter.annotation), parameter.default
    if allowed:
        return draw(st.sampled_from(allowed))
    if isinstance(default, bool):
        return draw(st.booleans())
    if isinstance(default, int):
        return draw(st.integers(0, 10**6))
    if isinstance(default, float):
        return draw(st.floats(0, 1e6, allow_subnormal=False) | st.integers(0, 1000).map(float))
    return default


@st.composite
def terms(draw, kind, name):
    known = catalog.parameters(catalog.maker(kind, name))
    return grammar.Term(kind, name, {key: draw(values(p)) for key, p in known.items()})


@st.composite
def specs(draw):
    """Draw a spec as the command makes them."""
    names = draw(st.lists(st.sampled_from(NAMES), max_size=3, unique=True))
    strategy = grammar.canonical(tuple(draw(terms("strategies", name)) for name in sorted(names))) or "naive"
    numbers = {"seed": st.integers(0, 2**63 - 1), "batch_size": st.integers(1, 999), "lr": st.floats(0, 1e6)}
    numbers |= {"weight_decay": st.floats(0, 1), "eval_every": st.integers(0, 99)}
    length = draw(st.sampled_from(["epochs", "iterations"]))
    return RunSpec(
        strategy=strategy,
        benchmark=str(draw(terms("benchmarks", "toy"))),
        dataset="synthetic",
        dataset_sha256="",
        optimizer=str(draw(terms("optimizers", draw(st.sampled_from(["adam", "sgd", "nvrm-adam"]))))),
        schedule=str(draw(terms("schedules", draw(st.sampled_from(["constant", "cosine", "steps"]))))),
        **{"epochs": 0, length: draw(st.integers(1, 99))},
        **{name: abs(draw(number)) for name, number in numbers.items()},
    )


def number_otherwise(value, at):
    """Return a text of the same number."""
    ways = [repr(value), f"{value:.17e}", f"+{value!r}", f" {value!r} "]
    if isinstance(value, int):
        ways = [str(value), f"{value:_}", f"00{value}", f"+{value}"]
    elif value == int(value) < 1e15:
        ways += [str(int(value)), f"{int(value)}.000"]
    if value == 0 and isinstance(value, float):
        ways.append("-0.0")
    return at.choice(ways)


def value_otherwise(value, at):
    if isinstance(value, bool):
        return at.choice([str(value), str(value).upper(), str(value).lower()])
    return value if isinstance(value, str) else number_otherwise(value, at)


def term_otherwise(text, kind, at):
    """Return another text of the same term: any order, defaults said or not, spaces, - or _."""
    term = grammar.parse(kind, text)
    said = list(term.changed()) + [key for key in term.settings if key not in term.changed() and at.random() < 0.5]
    at.shuffle(said)
    space = at.choice(["", " "])
    parts = [
        f"{space}{key.replace('_', at.choice('-_'))}{space}={value_otherwise(term.settings[key], at)}" for key in said
    ]
    return f"{space}{term.name.replace('-', at.choice('-_'))}{':' * bool(parts)}{','.join(parts)}{space}"


def otherwise(spec, at):
    """Return a spec written by hand that means the same run."""
    sums = [term_otherwise(part, "strategies", at) for part in grammar.PLUS.split(spec.strategy)]
    sums += ["naive"] * at.randrange(2)
    at.shuffle(sums)
    kinds = {"benchmark": "benchmarks", "optimizer": "optimizers", "schedule": "schedules"}
    texts = {field: term_otherwise(getattr(spec, field), kind, at) for field, kind in kinds.items()}
    as_numbers = [int if spec.lr == int(spec.lr) else float, np.float64]
    return replace(
        spec,
        strategy="+".join(sums),
        dataset=at.choice(["synthetic", "", "toy"]),
        seed=at.choice([int, np.uint64])(spec.seed),
        lr=at.choice(as_numbers)(spec.lr),
        weight_decay=spec.weight_decay or at.choice([0, 0.0, -0.0, False]),
        channels_last=at.choice([False, 0, np.bool_(False)]),
        **texts,
    )


@settings(max_examples=25)
@given(specs(), st.integers(0, 2**32))
def test_a_spec_written_otherwise_is_the_same_run(spec, seed):
    made = canonical(otherwise(spec, random.Random(seed)))
    assert made == spec and made.id == spec.id
    assert {name: type(value) for name, value in asdict(made).items()} == {
        name: type(value) for name, value in asdict(spec).items()
    }


@given(specs())
@settings(max_examples=10)
def test_what_the_command_makes_stays_as_it_is(spec):
    assert canonical(spec) == spec


PLAIN = {"dataset": "synthetic", "dataset_sha256": "", "seed": 0, "batch_size": 32, "lr": 3e-3, "weight_decay": 0.0}
PLAIN |= {"strategy": "naive", "benchmark": "toy", "optimizer": "adam", "epochs": 1}


@pytest.mark.parametrize(
    "values",
    [
        {"lr": 1},
        {"lr": Decimal(1)},
        {"seed": True},
        {"seed": 1.0},
        {"channels_last": 1},
        {"seed": np.int64(3), "lr": np.float32(0.5)},
    ],
)
def test_specs_that_are_equal_have_one_id_and_come_back_from_the_store(values, tmp_path):
    spec = RunSpec(**PLAIN | values)
    json_like = {name: int(v) if type(v) in (np.int64, bool) and name == "seed" else v for name, v in values.items()}
    assert spec == RunSpec(**PLAIN | json_like) and spec.id == RunSpec(**asdict(spec)).id
    store = Store(tmp_path)
    store.save(RunResult(spec, "done", ((0.5,),)))
    assert store.get(spec.id).spec == spec


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"strategy": "ewx"}, "Did you mean 'ewc'"),
        ({"strategy": "ewc+ewc:lambda=3"}, "more than once"),
        ({"strategy": ""}, "not of the form"),
        ({"benchmark": "toy:task=3"}, "no parameter 'task'"),
        ({"optimizer": "Adam"}, "Did you mean 'adam'"),
        ({"schedule": ""}, "not of the form"),
        ({"dataset_sha256": "0123456789abcdef"}, "makes its own data"),
        ({"epochs": 0}, "its epochs or its iterations"),
        ({"iterations": 5}, "its epochs or its iterations"),
        ({"batch_size": 0}, "at least 1, got 0"),
        ({"seed": -1}, "seed of a spec must be a whole number of at least 0"),
        ({"seed": 2**63}, "seed of a spec must be"),
        ({"lr": -0.1}, "lr of a spec must be a finite number of at least 0"),
        ({"lr": float("inf")}, "finite number"),
        ({"lr": float("nan")}, "finite number of at least 0, got nan"),
        ({"precision": "float16"}, "float32 or bfloat16, got 'float16'"),
        ({"lr": "0.1"}, "lr of a spec must be of type float, got '0.1'"),
        ({"seed": 1.5}, "seed of a spec must be of type int, got 1.5"),
        ({"seed": None}, "must be of type int"),
        ({"strategy": None}, "strategy of a spec must be of type str"),
        ({"compiled": "false"}, "must be of type bool"),
    ],
)
def test_a_spec_that_no_run_can_have_is_refused(values, says):
    with pytest.raises(UserError) as problem:
        canonical(RunSpec(**PLAIN | values))
    assert says in str(problem.value)


def test_whatever_trains_makes_specs_canonical(toy_spec, tmp_path, cli):
    by_hand = RunSpec(**PLAIN | {"strategy": "naive + l1:lambda=1e-4", "benchmark": "toy:samples=64,tasks=2", "lr": 1})
    meant = toy_spec("l1:lambda=0.0001", "toy:tasks=2,samples=64", epochs=1, lr=1.0)
    trained = run_one(by_hand, threads=1)
    (swept,) = sweep([by_hand], Store(tmp_path), Workers(jobs=1))
    assert trained.spec == swept.spec == meant and [path.stem for path in tmp_path.glob("*.json")] == [meant.id]
    words = ["--strategy", "l1:lambda=1e-4", "--benchmark", "toy:tasks=2,samples=64", "--epochs", 1, "--lr", 1]
    assert cli(*words, "--dry-run", "--jobs", 1)[1].split()[0] == meant.id


def test_images_are_meant_by_their_own_name_and_content(toy_spec, tmp_path):
    for part, name in product(("train", "test"), "ab"):
        folder = tmp_path / "tiny" / part / name
        folder.mkdir(parents=True)
        Image.new("L", (8, 8), ord(name)).save(folder / "1.png")
    spec = toy_spec(benchmark="permuted-mnist:width=4,tasks=1", dataset="Tiny", dataset_sha256="0" * 16)
    for values in ({}, {"dataset_sha256": ""}, {"dataset": "TINY"}):
        with pytest.raises(UserError, match=r"dataset='tiny', dataset_sha256='[0-9a-f]{16}'"):
            run_one(replace(spec, **values), data_dir=tmp_path)
    with pytest.raises(UserError, match="has changed on disk"):
        run_one(replace(spec, dataset="tiny"), data_dir=tmp_path)


def test_a_negative_zero_is_a_zero_in_a_command(cli):
    ids = [
        cli("--benchmark", "toy", "--strategy", f"nvrm:variability={zero}", "--weight-decay", zero, "--dry-run")[1][:16]
        for zero in ("0", "-0.0")
    ]
    assert ids[0] == ids[1]
