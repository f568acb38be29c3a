"""ResNet-32 for CIFAR: five basic blocks in each of three stages of 16, 32 and 64 channels (He et al. 2016).

Its shortcuts have a 1×1 convolution where the shape changes; theirs are padded with zeros.
"""

from cl_nvrm.models.resnet import ResNet


def model(shape: tuple[int, int, int], classes: int, *, width: int = 16) -> ResNet:
    """Build it; ``shape`` and ``classes`` come from the benchmark."""
    return ResNet(shape, classes, blocks=(5, 5, 5), width=width)
