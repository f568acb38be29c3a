"""ResNet-34 for small images: 3, 4, 6 and 3 basic blocks in its four stages."""

from cl_nvrm.models.resnet import RECIPES, ResNet

__all__ = ["RECIPES", "model"]


def model(shape: tuple[int, int, int], classes: int, *, width: int = 64) -> ResNet:
    """Build it; ``shape`` and ``classes`` come from the benchmark."""
    return ResNet(shape, classes, blocks=(3, 4, 6, 3), width=width)
