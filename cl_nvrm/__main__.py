"""``cl-nvrm VERB …``: each verb is a module, ``cl-nvrm run`` is ``python -m cl_nvrm.run``."""

import sys
from importlib import import_module

from cl_nvrm import cite
from cl_nvrm.errors import UserError, exit_code, leave

VERBS = {
    "run": "cl_nvrm.run",
    "report": "cl_nvrm.report.__main__",
    "runs": "cl_nvrm.runs.__main__",
    "reproduce": "cl_nvrm.reproduce.__main__",
    "perturb": "cl_nvrm.perturb",
    "study": "cl_nvrm.study.__main__",
    "calibrate": "cl_nvrm.calibrate",
    "bench": "cl_nvrm.bench.__main__",
}
DOES = {
    "run": "train strategies on a benchmark, print a table, draw figures, store every run",
    "report": "write stored runs as one HTML page and as tables",
    "runs": "list, show, compare, export, move, delete and check stored runs",
    "reproduce": "run published experiments and say whether the numbers agree",
    "perturb": "ask kept networks how they stand weight noise",
    "study": "train what a named study lacks and draw its figures",
    "calibrate": "translate λ and b between conventions",
    "bench": "measure speed as ratios",
}


def main() -> int:
    """Hand the arguments to the verb's module and return its exit code."""
    verb, *rest = sys.argv[1:] or [""]
    if verb in VERBS:
        code: int = import_module(VERBS[verb]).main(rest)
        return code
    return exit_code(lambda: _help(verb))


def _help(verb: str) -> int:
    if verb == "--version":
        print(f"cl_nvrm {cite.version()}\n\n{cite.bibtex()}")
        return 0
    if verb not in ("-h", "--help"):
        raise UserError(f"{f'no verb {verb!r}' if verb else 'no verb'}; write cl-nvrm {' or '.join(VERBS)} --help")
    print("usage: cl-nvrm VERB …, or python -m cl_nvrm.VERB …\n")
    for name, does in DOES.items():
        print(f"  {name:10} {does}")
    print("\ncl-nvrm VERB --help says more.")
    return 0


if __name__ == "__main__":
    leave(main())
