"""Experience replay with a reservoir: each batch is joined by samples from a memory of all that was shown so far.

Chaudhry et al., "On tiny episodic memories in continual learning", 2019 (arXiv 1902.10486), in the form of Buzzega et
al. 2020 and their library Mammoth: one forward pass over both, and the mean loss over both.
"""

from typing import Any

from cl_nvrm.plugins.memory import Rehearsal, Samples


class ERPlugin(Rehearsal):
    """Has samples from memory join every batch, from the second one on, those of the present task among them.

    They are a part of the batch for everybody: one forward pass, under NVRM with one noise, and a part of the data's
    loss, whose gradient SI and A-GEM read. Each goes through the head of its own task; frozen heads stay frozen.
    With ``memory`` 0 it is plain training, bit for bit.
    """

    name = "er"

    def joining(self, strategy: Any) -> Samples | None:
        """Return samples from memory."""
        return self.draw(strategy)
