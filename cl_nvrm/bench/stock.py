"""Stock Avalanche on Permuted MNIST, task by task on demand: a script of its own, which cl_nvrm does not touch.

``python stock.py FOLDER TASKS BATCH DEVICE default|lean`` trains the next task and evaluates all of them at each line
it reads, and answers with the seconds that took. ``lean`` has no logger, one metric and a fused optimizer.
"""

import sys
import time
from io import StringIO
from typing import Any

import torch
from avalanche.benchmarks.classic import PermutedMNIST
from avalanche.evaluation.metrics import accuracy_metrics, loss_metrics
from avalanche.logging import InteractiveLogger
from avalanche.training.plugins import EvaluationPlugin
from avalanche.training.supervised import Naive
from torch import nn


def main() -> None:
    """Serve the tasks."""
    folder, tasks, batch, device, kind = sys.argv[1:]
    answers, sys.stdout = sys.stdout, StringIO()
    lean = kind == "lean"
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Flatten(), nn.Linear(784, 1024), nn.ReLU(), nn.Linear(1024, 1024), nn.ReLU(), nn.Linear(1024, 10)
    ).to(device)
    benchmark: Any = PermutedMNIST(int(tasks), seed=0, dataset_root=folder)
    if lean:
        evaluator = EvaluationPlugin(accuracy_metrics(experience=True), loggers=[])
    else:
        shown = {"minibatch": False, "epoch": True, "experience": True, "stream": True}
        evaluator = EvaluationPlugin(accuracy_metrics(**shown), loss_metrics(**shown), loggers=[InteractiveLogger()])
    strategy = Naive(
        model=model,
        optimizer=torch.optim.Adam(model.parameters(), lr=1e-3, fused=lean),
        train_mb_size=int(batch),
        train_epochs=1,
        eval_mb_size=int(batch),
        device=torch.device(device),
        evaluator=evaluator,
    )
    print("ready", file=answers, flush=True)
    for experience, _ in zip(benchmark.train_stream, sys.stdin, strict=False):
        start = time.perf_counter()
        strategy.train(experience, reset_optimizer_state=True)
        strategy.eval(benchmark.test_stream)
        print(time.perf_counter() - start, file=answers, flush=True)


if __name__ == "__main__":
    main()
