"""Ten stacked trials against one, and against ten one by one."""

from collections.abc import Callable
from typing import Any

from cl_nvrm.bench.timing import Row, Setting, alternate, compare
from cl_nvrm.bench.work import spec
from cl_nvrm.training.stack import run_stack
from cl_nvrm.training.train import run_one


def measure(setting: Setting) -> list[Row]:
    """Compare the seconds of training, evaluations left out."""
    trials = 10
    specs = [spec(setting, "nvrm", tasks=1, subset=setting.pick(25_600, 512), seed=seed) for seed in range(trials)]
    options: dict[str, Any] = {"data_dir": setting.data_dir, "device": setting.device}

    def stack() -> float:
        return sum(result.train_seconds for result in run_stack(specs, **options))

    def one() -> float:
        return run_one(specs[0], **options).train_seconds

    cases: dict[str, Callable[[], object]] = {"stack": stack, "one": one}
    samples = alternate(cases, setting.pick(3, 1), setting, warm=1 if setting.device != "cpu" else 0)
    goal = None if setting.device == "cpu" else 1.5
    return [
        compare("stack", f"{trials} stacked trials / 1 trial, {setting.device}", samples, "stack", "one", most=goal)
    ]
