"""TaskAware: a network with several heads, as Avalanche wants it."""

from typing import Any

from avalanche.models import MultiTaskModule
from torch import Tensor, nn


class TaskAware(MultiTaskModule):
    """Shows Avalanche a network whose ``forward`` takes task labels, too; heads of other tasks freeze.

    The wrapped network has ``heads``, a ModuleList with one head a task label.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.heads: list[nn.Module] = list(network.heads)  # type: ignore[arg-type]

    def adaptation(self, experience: Any) -> None:
        """Before training on a task, let only its own head (and the shared layers) learn."""
        if self.training:
            for label, head in enumerate(self.heads):
                head.requires_grad_(label in experience.task_labels)

    def forward(self, x: Tensor, task_labels: Tensor | int) -> Tensor:
        """Return the logits of each sample's own head."""
        logits: Tensor = self.network(x, task_labels)
        return logits
