"""Noise on weights: its laws, the streams its draws come from, and ``Perturbation``, which takes it off bit for bit."""

from cl_nvrm.noise.laws import Gaussian, Laplace, Law, Noise, Scale, Uniform, law
from cl_nvrm.noise.perturbation import Perturbation, weight_noise
from cl_nvrm.noise.stream import Seed, Stream

__all__ = [
    "Gaussian",
    "Laplace",
    "Law",
    "Noise",
    "Perturbation",
    "Scale",
    "Seed",
    "Stream",
    "Uniform",
    "law",
    "weight_noise",
]
