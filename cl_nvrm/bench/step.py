"""Training, against a plain PyTorch loop and the bare matrix products; noise, against none."""

from collections.abc import Callable

import torch
from torch.nn.functional import cross_entropy

from cl_nvrm.bench.timing import Row, Setting, alternate, compare, threads
from cl_nvrm.bench.work import work


def measure(setting: Setting) -> list[Row]:
    """Compare with one thread and with as many as there are processors (on a GPU, just once)."""
    every = torch.get_num_threads()
    counts = [every] if setting.device != "cpu" else sorted({1, every})
    rows = []
    for count in counts:
        with threads(count):
            rows += _with_threads(setting, count)
    return rows


def _with_threads(setting: Setting, count: int) -> list[Row]:
    naive, nvrm = (work(setting, name, tasks=1, subset=setting.pick(25_600, 2_560)) for name in ("naive", "nvrm"))
    task = naive.benchmark.train[0]
    size = naive.strategy.train_mb_size
    x, y, _ = task.gather(torch.arange(len(task)))
    cases: dict[str, Callable[[], object]] = {
        "plain": plain_loop(naive.benchmark.model().to(setting.device), x, y, size),
        "matrices": matrix_products(naive.strategy.model, x, size),
        "naive": lambda: naive.train(0),
        "naive steps": lambda: naive.steps(0),
        "nvrm steps": lambda: nvrm.steps(0),
    }
    samples = alternate(cases, setting.pick(10, 3), setting)
    where = f"{count} thread{'s' * (count > 1)}" if setting.device == "cpu" else setting.device
    goal = 1.10 if setting.device == "cpu" else 1.05
    return [
        compare("step", f"training / plain PyTorch loop, {where}", samples, "naive", "plain", most=1.25),
        compare("step", f"training / matrix products alone, {where}", samples, "naive", "matrices", most=1.7),
        compare("step", f"nvrm / naive, {where}", samples, "nvrm steps", "naive steps", most=goal),
    ]


def plain_loop(model: torch.nn.Module, x: torch.Tensor, y: torch.Tensor, size: int) -> Callable[[], None]:
    """Return one epoch of the shortest loop: tensors in memory, fused Adam, nothing recorded."""
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, fused=True)

    def epoch() -> None:
        for index in torch.randperm(len(x), device=x.device).split(size):
            optimizer.zero_grad()
            cross_entropy(model(x[index]), y[index]).backward()
            optimizer.step()

    return epoch


def matrix_products(model: torch.nn.Module, x: torch.Tensor, size: int) -> Callable[[], None]:
    """Return the matrix products of one epoch, into memory that is there already."""
    weights = [p.detach().clone() for p in model.parameters() if p.ndim == 2]
    inputs = [x[:size].flatten(1)] + [x.new_empty(size, w.shape[0]).normal_() for w in weights[:-1]]
    outputs = [x.new_empty(size, w.shape[0]).normal_() for w in weights]
    to_weights, to_inputs = [torch.empty_like(w) for w in weights], [torch.empty_like(a) for a in inputs]

    def epoch() -> None:
        for _ in range(-(-len(x) // size)):
            for a, w, out in zip(inputs, weights, outputs, strict=True):
                torch.mm(a, w.t(), out=out)
            for k, (a, w, out) in enumerate(zip(inputs, weights, outputs, strict=True)):
                torch.mm(out.t(), a, out=to_weights[k])
                if k:  # nobody asks for the gradient of the images
                    torch.mm(out, w, out=to_inputs[k])

    return epoch
