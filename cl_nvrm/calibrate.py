"""``python -m cl_nvrm.calibrate``: what a λ of one convention is in another, and b beside each layer's weights.

λ does not carry over between code bases: some have a ½ before the penalty, some none, and the Fisher informations they
multiply differ by orders of magnitude. Measured after the first task of a benchmark, plainly trained.
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from cl_nvrm.benchmark import Benchmark
from cl_nvrm.errors import Diverged, Parser, UserError, exit_code, leave, note, number
from cl_nvrm.noise import law
from cl_nvrm.plugins.fisher import Kind, diagonal_fisher
from cl_nvrm.run.flags import Arguments, parse
from cl_nvrm.run.plan import plan
from cl_nvrm.spec import RunSpec, folders
from cl_nvrm.training.build import build_benchmark, build_strategy

# who, the factor before λ Σ F (θ - θ*)², the kind of Fisher information
CONVENTIONS: tuple[tuple[str, float, Kind], ...] = (
    ("here; Kirkpatrick et al. 2017; van de Ven", 0.5, "exact"),
    ("without the ½", 1.0, "exact"),
    ("one label drawn from the model", 0.5, "sampled"),
    ("the true label", 0.5, "empirical"),
    ("the true label, without the ½", 1.0, "empirical"),
    ("batch gradients squared", 0.5, "batch"),
    ("Avalanche 0.6: batch gradients squared, without the ½", 1.0, "batch"),
)

# the flags of a run that decide how the task is trained
HEARD = {
    *(
        "benchmark",
        "tasks",
        "seed",
        "epochs",
        "iterations",
        "batch_size",
        "lr",
        "optimizer",
        "weight_decay",
        "precision",
    ),
    *("channels_last", "compile", "data", "data_dir", "device", "quiet"),
}


@dataclass(frozen=True)
class Convention:
    """One way to write EWC: its total Fisher information, how like the exact one it is (cosine), the equivalent λ."""

    name: str
    factor: float
    fisher: Kind
    total: float
    cosine: float
    equivalent: float


@dataclass(frozen=True)
class Layer:
    """A weight tensor: its root mean square, and the noise's norm over its own."""

    name: str
    size: int
    rms: float
    noise_to_weight: float


def conventions(
    model: nn.Module, benchmark: Benchmark, batch_size: int, lambda_: float, samples: int = 0
) -> list[Convention]:
    """Return, for each convention, the λ whose penalty is as large in total as that of ``lambda_`` here.

    ``samples`` (0: all) of the first task's training data are used.
    """
    task = benchmark.train[0]
    index = torch.randperm(len(task), generator=torch.Generator().manual_seed(0))[: samples or None]
    found: dict[Kind, Tensor] = {}
    for kind in dict.fromkeys(kind for _, _, kind in CONVENTIONS):
        batches = map(task.gather, index.split(batch_size if kind == "batch" else 250))
        fisher = diagonal_fisher(model, batches, kind, multi_task=benchmark.heads > 1)
        found[kind] = torch.cat([f.flatten() for f in fisher.values()]).double()
    exact = found["exact"]
    rows = []
    for name, factor, kind in CONVENTIONS:
        total = float(found[kind].sum())
        cosine = float(torch.nn.functional.cosine_similarity(found[kind], exact, dim=0))
        rows.append(Convention(name, factor, kind, total, cosine, lambda_ / 2 * float(exact.sum()) / (factor * total)))
    return rows


def layers(model: nn.Module, variability: float) -> list[Layer]:
    """Return every weight tensor with the size of Gaussian noise of that variability beside it."""
    spread = variability * law("gaussian").variance ** 0.5
    rows = []
    for name, p in model.named_parameters():
        rms = float(p.detach().double().square().mean().sqrt())
        rows.append(Layer(name, p.numel(), rms, spread / rms if rms else float("inf")))
    return rows


def train_first_task(spec: RunSpec, data_dir: Path | None, device: str) -> tuple[nn.Module, Benchmark]:
    """Return the model after plain training on the benchmark's first task."""
    benchmark, _ = build_benchmark(replace(spec, first_tasks=1), data_dir, device)
    strategy = build_strategy(spec, benchmark, [], device)
    for experience in benchmark.streams().train_stream:
        strategy.train(experience)
    return strategy.model, benchmark


def main(argv: Sequence[str] | None = None) -> int:
    """Train a task, print both tables, return the exit code."""
    return exit_code(lambda: _calibrate(argv))


def _calibrate(argv: Sequence[str] | None) -> int:
    parser = Parser(prog="python -m cl_nvrm.calibrate", description="Train one task; translate λ and b.")
    size, whole = number(float, 0), number(int, 0)
    parser.add_argument("--lambda", dest="lambda_", type=size, default=100.0, help="λ of ewc here (default: 100)")
    parser.add_argument("--variability", type=size, default=0.03, help="b of nvrm (default: 0.03)")
    parser.add_argument("--samples", type=whole, default=2000, help="images for the Fisher information (default: 2000)")
    arguments, rest = parser.parse_known_args(argv)
    asked, plain = parse(rest), parse([])  # --benchmark, --data, --lr and the like, as for a run
    for flag in (name for name in Arguments.flag_names() if name not in HEARD):
        if getattr(asked, flag) != getattr(plain, flag):
            raise UserError(f"calibrate trains one task plainly, and has no use for --{flag.replace('_', '-')}")
    for remark in folders.remarks():
        note(remark)
    planned = plan(asked, note)
    spec = planned.specs[0]
    model, benchmark = train_first_task(spec, asked.data_dir, planned.device)
    console = Console()
    console = console if console.is_terminal else Console(width=140)
    if not all(bool(p.isfinite().all()) for p in model.parameters()):
        print("cl_nvrm: training diverged, so there is nothing to compare; take a smaller --lr", file=sys.stderr)
        return Diverged.code
    rows = conventions(model, benchmark, spec.batch_size, arguments.lambda_, arguments.samples)
    console.print(_conventions_table(rows, arguments))
    console.print(_layers_table(layers(model, arguments.variability), arguments))
    return 0


def _conventions_table(rows: Sequence[Convention], arguments: argparse.Namespace) -> Table:
    table = Table(title=f"λ = {arguments.lambda_:g} here, in other conventions", title_justify="left")
    for heading in ("convention", "penalty", "Fisher", "Σ F", "cosine with exact", "equivalent λ"):
        table.add_column(heading, justify="left" if heading in ("convention", "penalty", "Fisher") else "right")
    for row in rows:
        penalty = f"{'λ/2' if row.factor == 0.5 else 'λ'} Σ F (θ - θ*)²"
        table.add_row(row.name, penalty, row.fisher, f"{row.total:.4g}", f"{row.cosine:.3f}", f"{row.equivalent:.4g}")
    return table


def _layers_table(rows: Sequence[Layer], arguments: argparse.Namespace) -> Table:
    table = Table(title=f"b = {arguments.variability:g} beside the weights", title_justify="left")
    table.add_column("tensor")
    for heading in ("weights", "root mean square", "noise / weights"):
        table.add_column(heading, justify="right")
    for row in rows:
        table.add_row(row.name, f"{row.size:,}", f"{row.rms:.4f}", f"{row.noise_to_weight:.2f}")
    return table


if __name__ == "__main__":
    leave(main())
