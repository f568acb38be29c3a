"""ResNet-18 for small images: two basic blocks in each of four stages."""

from cl_nvrm.models.resnet import RECIPES, ResNet

__all__ = ["RECIPES", "model"]


def model(shape: tuple[int, int, int], classes: int, *, width: int = 64) -> ResNet:
    """Build it; ``shape`` and ``classes`` come from the benchmark."""
    return ResNet(shape, classes, blocks=(2, 2, 2, 2), width=width)
