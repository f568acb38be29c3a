"""Learning-rate schedules do what they say, in the optimizer a run really uses."""

from itertools import pairwise

import pytest
from avalanche.core import SupervisedPlugin

from cl_nvrm.errors import UserError
from cl_nvrm.spec import catalog, grammar
from cl_nvrm.training.build import build_benchmark, build_strategy, schedule_of
from cl_nvrm.training.schedule import Schedule
from cl_nvrm.training.train import run_one


def made(text):
    return grammar.parse("schedules", text).make()


@pytest.mark.parametrize("name", catalog.names("schedules"))
def test_every_schedule_starts_at_the_learning_rate_and_never_rises(name):
    factors = [made(name)(epoch / 300) for epoch in range(300)]
    assert factors[0] == 1
    assert all(0 < later <= earlier for earlier, later in pairwise(factors))


def test_steps_divide_by_ten_after_100_and_200_of_300_epochs():
    factor = made("steps")
    rates = [factor(epoch / 300) for epoch in range(300)]
    assert rates[:100] == [1.0] * 100
    assert rates[100:200] == pytest.approx([0.1] * 100)
    assert rates[200:] == pytest.approx([0.01] * 100)


@pytest.mark.parametrize("epochs", range(1, 200))
def test_steps_fall_on_whole_epochs_wherever_they_can(epochs):
    factor = made("steps:drops=2,factor=0.5")
    rates = [factor(epoch / (3 * epochs)) for epoch in range(3 * epochs)]
    assert rates == [1.0] * epochs + [0.5] * epochs + [0.25] * epochs


def test_the_cosine_is_half_way_down_half_way_through():
    assert made("cosine")(0.5) == pytest.approx(0.5)


def test_the_linear_one_stays_for_80_of_200_epochs_and_then_falls_by_equal_steps():
    rates = [made("linear:start=0.4")(epoch / 200) for epoch in range(200)]
    assert rates[:81] == [1.0] * 81
    assert rates[80:] == pytest.approx([(200 - epoch) / 120 for epoch in range(80, 200)])


@pytest.mark.parametrize("text", ["linear:start=1", "linear:start=-0.1"])
def test_a_line_that_starts_at_no_share_is_refused(text):
    with pytest.raises(UserError, match="start must lie within 0 and 1"):
        made(text)


@pytest.mark.parametrize("text", ["steps:drops=-1", "steps:factor=0", "steps:factor=2", "step"])
def test_schedules_that_make_no_sense_are_refused(text):
    with pytest.raises(UserError, match=r"steps|step"):
        made(text)


def test_each_epoch_of_each_task_trains_at_its_rate(train_toy):
    seen = []

    class Watch(Schedule):
        def before_training_epoch(self, strategy, **kwargs):
            super().before_training_epoch(strategy, **kwargs)
            seen.append(strategy.optimizer.param_groups[0]["lr"])

    benchmark = catalog.maker("benchmarks", "toy")(tasks=2, samples=64, seed=0)
    train_toy([Watch(0.1, made("steps:drops=1"))], benchmark=benchmark, epochs=4)
    assert seen == pytest.approx([0.1, 0.1, 0.01, 0.01] * 2)


def test_a_run_without_a_schedule_has_none_and_one_with_is_another_run(toy_spec):
    plain, stepped = toy_spec(), toy_spec(schedule="steps:drops=1,factor=0.1")
    assert schedule_of(plain) is None
    assert schedule_of(stepped) is not None
    first, second = run_one(plain), run_one(stepped)
    assert plain.id != stepped.id
    assert first.losses[0][0] == second.losses[0][0] and first.losses[0][1] != second.losses[0][1]


def test_iterations_have_a_rate_each(toy_spec):
    seen = []

    class Watch(SupervisedPlugin):
        def before_update(self, strategy, **kwargs):
            seen.append(strategy.optimizer.param_groups[0]["lr"])

    spec = toy_spec(benchmark="toy:tasks=2,samples=64", epochs=0, iterations=5, schedule="linear:start=0", lr=1.0)
    benchmark, _ = build_benchmark(spec, None, "cpu")
    strategy = build_strategy(spec, benchmark, [schedule_of(spec), Watch()], "cpu")
    for experience in benchmark.streams().train_stream:
        strategy.train(experience)
    assert seen == pytest.approx([1.0, 0.8, 0.6, 0.4, 0.2] * 2)
