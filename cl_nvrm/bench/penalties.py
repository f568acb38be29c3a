"""Strategies against plain training, early and late in a sequence of tasks."""

from collections.abc import Callable
from functools import partial

from cl_nvrm.bench.timing import Row, Setting, alternate, compare
from cl_nvrm.bench.work import Work, work

STRATEGIES = {"naive": "naive", "ewc": "ewc:samples=256", "si": "si", "ewc+nvrm": "ewc:samples=256+nvrm"}


def measure(setting: Setting) -> list[Row]:
    """Compare the steps of a task after the 4th and after the 49th; earlier tasks are a few steps each."""
    late, rounds = setting.pick(50, 12), setting.pick(8, 2)
    tasks = late + rounds
    works = {name: work(setting, text, tasks=tasks, subset=2_560) for name, text in STRATEGIES.items()}
    rows = _at(setting, works, 5, rounds)
    for task in range(5 + rounds, late - 1):
        for each in works.values():
            each.train(task)
    return rows + _at(setting, works, late, rounds)


def _at(setting: Setting, works: dict[str, Work], task: int, rounds: int) -> list[Row]:
    """Compare from task number ``task`` on, one task a round; everything before it has been trained on."""
    start = task - 1
    if task == 5:
        for earlier in range(start):
            for each in works.values():
                each.train(earlier)
    position = dict.fromkeys(works, start)

    def step(name: str) -> float:
        position[name] += 1
        return works[name].steps(position[name] - 1)

    cases: dict[str, Callable[[], object]] = {name: partial(step, name) for name in works}
    samples = alternate(cases, rounds, setting, warm=0)
    goals = {"ewc+nvrm": 1.25}
    return [
        compare("penalties", f"{name} / naive, task {task}", samples, name, "naive", most=goals.get(name))
        for name in works
        if name != "naive"
    ]
