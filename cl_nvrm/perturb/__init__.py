"""Noise on weights, and off again, bit for bit; ``python -m cl_nvrm.perturb`` asks what stored weights stand."""

from cl_nvrm.perturb.perturbation import Perturbation, weight_noise

__all__ = ["Perturbation", "weight_noise"]
