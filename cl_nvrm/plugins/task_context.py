"""Around a task: what a plug-in needs for the length of a task's training, and what must go again whatever happens.

Avalanche calls no plug-in when something raises, and may announce a task that is then never run.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from typing import Any

Context = Callable[[], AbstractContextManager[Any]]


def around_task(strategy: Any, plugin: Any, context: Context) -> None:
    """Have ``context()`` entered around the coming task's training, from ``before_training_exp`` of a plug-in.

    Several contexts nest in the order they came. What a plug-in asked for a task that was never run, its next call
    replaces.
    """
    contexts: dict[int, Context] | None = vars(strategy).get("_around")
    if contexts is None:
        contexts = strategy._around = {}
        train: Callable[..., None] = strategy._train_exp

        def guarded(*arguments: Any, **kwargs: Any) -> None:
            entered = list(vars(strategy).pop("_around").values())
            vars(strategy).pop("_train_exp")
            with ExitStack() as stack:
                for each in entered:
                    stack.enter_context(each())
                train(*arguments, **kwargs)

        strategy._train_exp = guarded
    contexts[id(plugin)] = context
