import pytest

from cl_nvrm.analysis import metrics
from cl_nvrm.spec import RunResult, RunSpec

SPEC = RunSpec("naive", "toy", "synthetic", "", 0, 1, 32, "adam", 1e-3, 0.0)
MATRIX = ((0.9, 0.3, 0.2), (0.95, 0.8, 0.4), (0.5, 0.6, 0.7))
TRACE = ((0, 5, (0.1,)), (1, 5, (0.2, 0.3)), (2, 5, (0.4, 0.55, 0.2)), (2, 10, (0.6, 0.7, 0.3)))
START = (0.1, 0.2, 0.1)
ONE_BY_ONE = {"heads": 1, "scenario": "class-incremental, 2 classes a task"}
RUN = RunResult(SPEC, "done", MATRIX, initial=START, trace=TRACE)


def value(name, run=RUN):
    return metrics.metric(name, run).value


def test_metrics_follow_their_definitions():
    assert value("base task") == 0.5
    assert value("ACC") == pytest.approx(0.6)
    assert value("learning accuracy") == pytest.approx(0.8)
    assert value("kept accuracy") == pytest.approx(0.55)
    assert value("BWT") == pytest.approx(((0.5 - 0.9) + (0.6 - 0.8)) / 2)
    assert value("FWT") == pytest.approx(((0.3 - 0.2) + (0.4 - 0.1)) / 2)
    assert value("forgetting") == pytest.approx(((0.95 - 0.5) + (0.8 - 0.6)) / 2)
    # task 0 is at its lowest, 0.2, early in task 1 (its own training does not count), task 1 at 0.55
    assert value("min-ACC") == pytest.approx((0.2 + 0.55) / 2)
    assert value("WC-ACC") == pytest.approx(2 / 3 * (0.2 + 0.55) / 2 + 0.7 / 3)


def test_the_two_curves_follow_the_tasks():
    assert metrics.base_task(MATRIX) == [0.9, 0.95, 0.5]
    assert metrics.mean_accuracy(MATRIX) == pytest.approx([0.9, (0.95 + 0.8) / 2, 0.6])
    assert metrics.base_task(()) == metrics.mean_accuracy(()) == []


@pytest.mark.parametrize(
    ("run", "name", "reason"),
    [
        (RunResult(SPEC, "done", ((0.9,),)), "BWT", "only one task"),
        (RunResult(SPEC, "done", ((0.9,),)), "forgetting", "only one task"),
        (RunResult(SPEC, "done", MATRIX), "FWT", "untrained network was not evaluated"),
        (RunResult(SPEC, "done", MATRIX, initial=START, provenance={"heads": 3}), "FWT", "untrained before it"),
        (RunResult(SPEC, "done", MATRIX, initial=START, provenance=ONE_BY_ONE), "FWT", "untrained before it"),
        (RunResult(SPEC, "done", MATRIX), "min-ACC", "--eval-every"),
        (RunResult(SPEC, "diverged", MATRIX[:1]), "ACC", "diverged"),
    ],
)
def test_an_undefined_metric_is_none_with_a_reason(run, name, reason):
    found = metrics.metric(name, run)
    assert found.value is None and reason in found.reason
    assert metrics.summary(run).keys() == metrics.METRICS.keys()
