"""A convolutional network's epoch, against matrix products of as many multiply-adds, and noise against none.

On a CPU the small CNN; elsewhere ResNet-34 in bfloat16, channels last, as a run with these flags trains it.
"""

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import nn

from cl_nvrm.bench.timing import Row, Setting, alternate, compare
from cl_nvrm.bench.work import Work, of_benchmark, prepared
from cl_nvrm.benchmark import Benchmark


def measure(setting: Setting) -> list[Row]:
    """Compare the steps of one epoch."""
    on_cpu = setting.device == "cpu"
    network = "small-cnn" if on_cpu else "resnet34"
    naive = _work(setting, network, "naive")
    nvrm = _work(setting, network, "nvrm")
    size, count = naive.strategy.train_mb_size, len(naive.benchmark.train[0])
    forward = multiply_adds(naive.benchmark)
    dtype = torch.float32 if on_cpu else torch.bfloat16
    cases: dict[str, Callable[[], object]] = {
        "naive": lambda: naive.steps(0),
        "nvrm": lambda: nvrm.steps(0),
        # A training step takes two more products of the size of the forward pass.
        "products": products(3 * forward * count, setting.device, dtype),
    }
    samples = alternate(cases, setting.pick(5, 2), setting)
    what = f"{network}, {count} images, batch {size}, {dtype}".replace("torch.", "")
    return [
        compare("networks", f"{what}: an epoch / as many multiply-adds in products", samples, "naive", "products"),
        compare("networks", f"{what}: nvrm / naive", samples, "nvrm", "naive", most=1.10 if on_cpu else 1.05),
    ]


def multiply_adds(benchmark: Benchmark) -> int:
    """Return the multiply-adds of one image's way through the network's convolutions and linear layers."""
    counted = 0

    def count(module: nn.Module, given: tuple[torch.Tensor, ...], out: torch.Tensor) -> None:
        nonlocal counted
        weight: torch.Tensor = module.weight  # type: ignore[assignment]
        counted += weight[0].numel() * out[0].numel()

    model = benchmark.model().eval()
    for module in model.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            module.register_forward_hook(count)
    with torch.no_grad():
        model(benchmark.train[0].images[:1].cpu())
    return counted


def products(total: int, device: str, dtype: torch.dtype) -> Callable[[], None]:
    """Return square matrix products of at least ``total`` multiply-adds, at a size that keeps the device busy."""
    side = 1024 if device == "cpu" else 8192
    a, b = (torch.randn(side, side, device=device, dtype=dtype) for _ in range(2))
    out = torch.empty_like(a)

    def multiply() -> None:
        for _ in range(-(-total // side**3)):
            torch.mm(a, b, out=out)

    return multiply


def _work(setting: Setting, network: str, strategy: str) -> Work:
    on_cpu = setting.device == "cpu"
    subset = setting.pick(2_560 if on_cpu else 50_000, 640)
    spec = of_benchmark(setting, f"noisy-cifar10:model={network}", strategy, subset=subset)
    return prepared(setting, spec if on_cpu else replace(spec, precision="bfloat16", channels_last=True))
