"""The figure of neuron steadiness: variance within classes, cross-entropy and test error, epoch by epoch."""

from collections.abc import Sequence

import seaborn as sns
from matplotlib.figure import Figure

from cl_nvrm.analysis.comparisons import Cell
from cl_nvrm.report.figures import finished
from cl_nvrm.report.lines import mean_line
from cl_nvrm.spec import RunResult
from cl_nvrm.spec.curves import TEST
from cl_nvrm.study.figures.captions import caption

PANELS = {
    "intra_class_variance": "Variance within classes, logits",
    "cross_entropy": "Cross-entropy, training samples",
    "test error": "Test error (%)",
}


def curves(cells: Sequence[Cell], title: str) -> Figure:
    """Draw, after every epoch, what runs with ``nsr`` recorded of the logits, and test error; a line a cell.

    Lines are means over seeds, bands 95 % confidence intervals (t).
    """
    figure = Figure(figsize=(13.2, 4.2), layout="constrained")
    with sns.axes_style("whitegrid"):
        axes = list(figure.subplots(1, len(PANELS)))
    for axis, (name, heading) in zip(axes, PANELS.items(), strict=True):
        for number, cell in enumerate(cells):
            runs = [recorded(result, name) for result in cell.done]
            if not all(runs):
                continue
            epochs = list(zip(*runs, strict=True))
            mean_line(axis, range(1, len(epochs) + 1), epochs, number, cell.name)
        axis.set(xlabel="Epoch", ylabel=heading, yscale="linear" if name == "test error" else "log")
    best = min((min(recorded(result, "test error"), default=0.0) for result in finished(cells)), default=0.0)
    axes[-1].set_ylim(0.8 * best, max(4 * best, 0.1))  # the first epochs are far above
    axes[0].legend()
    return caption(figure, title, [len(cell.done) for cell in cells])


def recorded(result: RunResult, name: str) -> list[float]:
    """Return one number an epoch of a one-task run, or nothing where it was not recorded."""
    if name == "test error":
        return [100 * (1 - value) for value in result.curves.get(TEST, ())]
    match result.diagnostics.get("nsr"):
        case [{"by_epoch": {**by_name}}, *_] if isinstance(values := by_name.get(name), list):
            return [value for value in values if isinstance(value, float)]
    return []
