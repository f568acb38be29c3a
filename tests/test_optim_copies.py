"""Wrapped optimizers are copied, pickled and hooked as torch's own are."""

import copy
import io
import pickle

import pytest
import torch
from torch import nn

from cl_nvrm.optim import NVRM, PSGD


def flat(model):
    return torch.cat([p.detach().flatten() for p in model.parameters()])


@pytest.mark.parametrize("make", [NVRM, PSGD])
def test_a_copy_leaves_the_original_alone_and_hooks_behind(make):
    model, x = nn.Linear(6, 2), torch.randn(5, 6)
    optimizer = make(torch.optim.SGD(model.parameters(), lr=0.1), 0.1)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 1)
    optimizer.register_step_post_hook(lambda *_: pytest.fail("a hook went along"))
    buffer = io.BytesIO()
    torch.save((model, optimizer), buffer)
    buffer.seek(0)
    for twin, copied in (
        copy.deepcopy((model, optimizer)),
        pickle.loads(pickle.dumps((model, optimizer))),
        torch.load(buffer, weights_only=False),
    ):
        before = flat(model), flat(twin)
        assert torch.equal(*before)
        twin(x).sum().backward()
        copied.step()
        assert torch.equal(flat(model), before[0]) and not torch.equal(flat(twin), before[1])
    del scheduler


@pytest.mark.parametrize("make", [NVRM, PSGD])
def test_state_dict_hooks_are_called_and_may_change_the_state(make):
    optimizer = make(torch.optim.Adam(nn.Linear(2, 2).parameters()), 0.1)
    calls = []
    optimizer.register_state_dict_pre_hook(lambda o: calls.append("before saving"))
    optimizer.register_state_dict_post_hook(lambda o, state: {**state, "epoch": 3})
    optimizer.register_load_state_dict_pre_hook(lambda o, state: calls.append(state.pop("epoch")))
    optimizer.register_load_state_dict_post_hook(lambda o: calls.append("after loading"))
    state = optimizer.state_dict()
    optimizer.load_state_dict(state)
    assert calls == ["before saving", 3, "after loading"] and state["epoch"] == 3
