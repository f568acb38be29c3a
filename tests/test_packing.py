import json
import math
from collections import Counter
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from cl_nvrm.training.packing import NotPlain, Packer, Unpacker, dumps, random_states, set_random_states


def there_and_back(value, fresh=None, weights=None):
    packer = Packer(weights or {})
    tree = json.loads(dumps(packer.pack(value)))
    return Unpacker(packer.tensors, weights or {}).unpack(tree, fresh)


plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: (
        st.lists(inner)
        | st.tuples(inner, inner)
        | st.dictionaries(st.text() | st.integers() | st.tuples(st.integers(), st.text()), inner)
    ),
    max_leaves=12,
)


@given(plain)
def test_plain_values_come_back_with_their_types(value):
    back = there_and_back(value)
    assert back == value and repr(back) == repr(value)


def test_tensors_arrays_and_numbers_that_json_lacks_come_back_bit_for_bit():
    value = {
        "half": torch.tensor([1.5, math.nan], dtype=torch.bfloat16),
        "strided": torch.arange(6.0).view(2, 3).T,
        "none": torch.empty(0, 3),
        "flags": torch.tensor([True, False]),
        "array": np.arange(3, dtype=np.uint32),
        "inf": math.inf,
        "set": {1, 2},
    }
    back = there_and_back(value)
    for name in ("half", "strided", "none", "flags"):
        assert back[name].dtype == value[name].dtype and back[name].shape == value[name].shape
        assert torch.equal(torch.nan_to_num(back[name]), torch.nan_to_num(value[name]))
    assert np.array_equal(back["array"], value["array"]) and back["array"].dtype == np.uint32
    assert back["inf"] == math.inf and back["set"] == {1, 2}


def test_one_tensor_in_two_places_stays_one_and_a_weight_stays_the_weight():
    weight, shared = torch.nn.Parameter(torch.ones(2)), torch.zeros(2)
    back = there_and_back([shared, {"again": shared}, weight], weights={"layer.weight": weight})
    assert back[0] is back[1]["again"] and back[0] is not shared
    assert back[2] is weight


def test_a_generator_goes_on_where_it_was():
    generator = torch.Generator().manual_seed(3)
    torch.rand(5, generator=generator)
    copy = there_and_back(generator)
    assert torch.equal(torch.rand(5, generator=copy), torch.rand(5, generator=generator))


def test_an_object_with_a_state_dict_is_filled_and_what_is_fixed_stays():
    @dataclass(frozen=True)
    class Law:
        b: float

    trained, new = torch.nn.Linear(2, 2), torch.nn.Linear(2, 2)
    saved = {"net": trained, "law": Law(1.0), "call": print}
    back = there_and_back(saved, {"net": new, "law": Law(1.0), "call": print})
    assert back["net"] is new and torch.equal(new.weight, trained.weight)
    assert back["law"] == Law(1.0) and back["call"] is print
    for other in ({"law": Law(2.0), "call": print}, {"law": Law(1.0), "call": len}, {"law": None, "call": print}):
        with pytest.raises(NotPlain, match="where a new plug-in has"):
            there_and_back(saved, {"net": new, **other})


def test_what_is_no_plain_state_is_refused():
    with pytest.raises(NotPlain, match="a Counter"):
        Packer({}).pack(Counter("aab"))
    with pytest.raises(NotPlain, match="a object"):
        Packer({}).pack({"a": [object()]})
    with pytest.raises(NotPlain, match="does not have yet"):
        there_and_back(torch.nn.Linear(1, 1))


def test_random_states_come_back():
    import random

    states = there_and_back(random_states())
    first = (torch.rand(1).item(), np.random.rand(), random.random())
    set_random_states(states)
    assert (torch.rand(1).item(), np.random.rand(), random.random()) == first
