import pytest
from hypothesis import given
from hypothesis import strategies as st

from cl_nvrm.errors import UserError
from cl_nvrm.spec import grammar


def canonical(text, **flags):
    return grammar.canonical(grammar.parse_sum(text, flags))


def test_plus_is_commutative_and_naive_is_neutral():
    sums = ("ewc+nvrm", "nvrm+ewc", "naive+ewc+nvrm", "nvrm + naive + ewc", "ewc+naive+nvrm+naive")
    assert len({canonical(text) for text in sums}) == 1
    assert canonical("naive+naive") == canonical("naive") == "naive"


def test_the_canonical_text_spells_out_every_default():
    assert canonical("ewc:lambda=30") == "ewc:lambda=30,fisher=exact,samples=2000,mode=separate,decay=1"


@given(st.floats(0, 1e300), st.sampled_from(["gaussian", "uniform"]), st.booleans())
def test_the_canonical_text_parses_to_itself(variability, noise, relative):
    text = canonical(f"nvrm:variability={variability!r},noise={noise},relative={str(relative).lower()}+ewc")
    assert canonical(text) == text
    assert grammar.parse_sum(text)[1].settings["variability"] == variability


def test_a_plus_in_an_exponent_is_part_of_the_number():
    assert grammar.parse_sum("ewc:lambda=1e+3+nvrm")[0].settings["lambda"] == 1000


def test_equal_values_written_differently_are_the_same_run():
    assert canonical("ewc:lambda=100") == canonical("ewc:lambda=1e2") == canonical("ewc") == canonical("EWC".lower())


def test_a_bare_flag_goes_to_the_one_that_takes_it_and_a_written_value_wins():
    assert "lambda=7" in canonical("ewc+nvrm", **{"lambda": "7"})
    assert "lambda=3" in canonical("ewc:lambda=3", **{"lambda": "7"})


def test_a_bare_flag_that_two_take_says_what_to_write(plug_in):
    plug_in("strategies/rival.py", '"""Rival."""\n\n\ndef plugin(*, lambda_: float = 1.0) -> None: ...\n')
    with pytest.raises(UserError, match=r"taken by ewc and rival; write --strategy ewc:lambda=7\+… or"):
        grammar.parse_sum("ewc+rival", {"lambda": "7"})


def test_the_short_text_keeps_only_what_differs_from_the_defaults():
    assert grammar.short(grammar.parse_sum("nvrm+ewc:lambda=30,fisher=exact")) == "ewc:lambda=30+nvrm"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("ewx", "No 'ewx' in strategies/. Did you mean 'ewc'"),
        ("zzzzzz", "There are agem, asam, "),
        ("ewc+ewc", "more than once"),
        ("ewc:lam=1", "no parameter 'lam'; it has lambda, fisher"),
        ("ewc:lambda=x", "'lambda' of 'ewc' must be a finite number, got 'x'"),
        ("ewc:lambda=nan", "finite number"),
        ("ewc:lambda=inf", "finite number"),
        ("ewc:samples=1.5", "a whole number, got '1.5'"),
        ("ewc:fisher=huge", "one of exact, sampled, empirical, predicted, batch, got 'huge'"),
        ("nvrm:relative=maybe", "true or false"),
        ("ewc:lambda", "not of the form key=value"),
        ("ewc:lambda=1,lambda=2", "given twice"),
        ("naive:a=1", "it has none"),
        ("", "not of the form name"),
        ("ewc+", "not of the form"),
        ("../ewc", "not of the form name"),
    ],
)
def test_bad_texts_are_refused_with_what_to_write(text, says):
    with pytest.raises(UserError) as problem:
        grammar.parse_sum(text)
    assert says in str(problem.value)


def test_a_makers_value_error_becomes_a_user_error_that_names_it():
    with pytest.raises(UserError, match=r"^toy: tasks, classes"):
        grammar.parse("benchmarks", "toy:tasks=0").make(seed=0)


def test_a_grid_is_every_way_to_choose_in_order():
    sums = grammar.grid("ewc:lambda=10|1e+3,samples=5+nvrm:variability=0|0.1")
    assert [grammar.short(terms) for terms in sums] == [
        f"ewc:lambda={strength},samples=5+nvrm{b}"
        for strength in (10, 1000)
        for b in (":variability=0", ":variability=0.1")
    ]
    assert [grammar.short(t) for t in grammar.grid("ewc+nvrm", {"lambda": "1|2"})] == [
        "ewc:lambda=1+nvrm",
        "ewc:lambda=2+nvrm",
    ]
    assert len(grammar.grid("ewc:lambda=1|1.0|1e0")) == 1
    assert grammar.grid("naive") == [grammar.parse_sum("naive")]


@pytest.mark.parametrize("text", ["ewc:lambda=1||2", "ewc:lambda=|2", "ewc:lambda=1|x", "ewc|si"])
def test_a_grid_with_a_hole_is_refused(text):
    with pytest.raises(UserError):
        grammar.grid(text)
