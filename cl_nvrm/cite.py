"""Cite: which version this is, and what to write into a bibliography."""

from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as installed

SOFTWARE = """@software{{cl_nvrm,
  title = {{cl\\_nvrm: continual-learning benchmarks with neural variable risk minimisation}},
  author = {{{{The cl\\_nvrm authors}}}},
  version = {{{version}}},
  year = {{2026}}
}}"""
METHOD = """@article{xie2021artificial,
  title = {Artificial Neural Variability for Deep Learning: On Overfitting, Noise Memorization, and Catastrophic Forgetting},
  author = {Xie, Zeke and He, Fengxiang and Fu, Shaopeng and Sato, Issei and Tao, Dacheng and Sugiyama, Masashi},
  journal = {Neural Computation},
  volume = {33},
  number = {8},
  pages = {2163--2192},
  year = {2021}
}"""  # noqa: E501


def version() -> str:
    """Return the installed version, or ``unknown`` for a copy that nothing was installed from."""
    try:
        return installed("cl_nvrm")
    except PackageNotFoundError:
        return "unknown"


def bibtex() -> str:
    """Return BibTeX entries: this software at its version, and the paper of NVRM."""
    return f"{SOFTWARE.format(version=version())}\n\n{METHOD}"
