"""Streams of random draws: one seed, one sequence, whatever the number of threads."""

from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from cl_nvrm.noise.laws import Noise

Seed = int | tuple[int, ...]  # several: one for each trial of a stack


class Stream:
    """A sequence of random draws that depends on the seed alone; with several seeds, one such sequence a trial.

    On a CPU, draw i is a function of the seed and i (``kernels.draws``): the same on any number of threads, and on
    any CPU. On other devices torch's generators are used, seeded alike; their draws are others.
    """

    def __init__(self, seed: Seed = 0) -> None:
        seeds = seed if isinstance(seed, tuple) else (seed,)
        self._seeds = seeds
        self._stacked = isinstance(seed, tuple)
        self._position = 0
        self._generators: dict[torch.device, list[torch.Generator]] = {}

    @cached_property
    def _keys(self) -> list[int]:
        """Where seeds 0, 1, 2, … lie anywhere in 2⁶⁴, so that no stream runs into another one's numbers."""
        from cl_nvrm.noise.kernels import draws  # imports numba, which only drawing needs

        return [draws.key(seed) for seed in self._seeds]

    def add_noise(self, out: Tensor, clean: Tensor, noise: Noise, scale: float | Tensor) -> None:
        """Write ``clean`` + ``scale`` · draws into ``out``: contiguous, on the CPU, of one shape and floating type.

        With several seeds the leading axis of the tensors is the trial, and ``scale`` may have an entry for each.
        """
        from cl_nvrm.noise.kernels import draws

        outs, cleans = (out.unbind(), clean.unbind()) if self._stacked else ((out,), (clean,))
        scales = scale.expand(len(outs)).tolist() if isinstance(scale, Tensor) else [scale] * len(outs)
        kernel = getattr(noise, "kernel", None)
        for member, (one, rest, b) in enumerate(zip(outs, cleans, scales, strict=True)):
            if kernel is None:
                xi = noise.draw_(torch.empty_like(rest), self._generator(out.device, member))
                torch.add(rest, xi, alpha=b, out=one)
            else:
                draws.fill(kernel, one, rest, b * noise.factor, self._keys[member], self._position)  # type: ignore[attr-defined]
        if kernel is not None:
            self._position += -(-outs[0].numel() // 2)

    def draw_(self, out: Tensor, noise: Noise) -> Tensor:
        """Fill ``out``, on any device, with draws at b = 1 from torch's generators; leading axis as above."""
        for member, one in enumerate(out.unbind() if self._stacked else (out,)):
            noise.draw_(one, self._generator(out.device, member))
        return out

    def state_dict(self) -> dict[str, Any]:
        """Return what the next draws depend on, as plain values and tensors."""
        states = {str(device): [g.get_state() for g in made] for device, made in self._generators.items()}
        return {"keys": list(self._keys), "position": self._position, "generators": states}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where ``state`` was taken."""
        self._keys, self._position = list(state["keys"]), state["position"]
        self._generators = {}
        for name, states in state["generators"].items():
            for member, one in enumerate(states):
                self._generator(torch.device(name), member).set_state(one)

    def _generator(self, device: torch.device, member: int) -> torch.Generator:
        if device not in self._generators:
            self._generators[device] = [torch.Generator(device).manual_seed(seed) for seed in self._seeds]
        return self._generators[device][member]
