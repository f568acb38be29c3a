"""``cl-nvrm VERB …``: each verb is a module, ``cl-nvrm run`` is ``python -m cl_nvrm.run``."""

import sys
from importlib import import_module

VERBS = {
    "run": "cl_nvrm.run",
    "report": "cl_nvrm.report.__main__",
    "perturb": "cl_nvrm.perturb",
    "study": "cl_nvrm.study.__main__",
    "calibrate": "cl_nvrm.calibrate",
    "bench": "cl_nvrm.bench.__main__",
}


def main() -> int:
    """Hand the arguments to the verb's module and return its exit code."""
    verb, *rest = sys.argv[1:] or [""]
    if verb not in VERBS:
        given = "no verb" if verb in ("", "-h", "--help") else f"no verb '{verb}'"
        print(f"cl_nvrm: {given}; write cl-nvrm {' or '.join(VERBS)} --help", file=sys.stderr)
        return 0 if verb in ("-h", "--help") else 2
    code: int = import_module(VERBS[verb]).main(rest)
    return code


if __name__ == "__main__":
    sys.exit(main())
