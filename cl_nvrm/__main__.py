"""``cl-nvrm VERB …``: each verb is a module, ``cl-nvrm run`` is ``python -m cl_nvrm.run``."""

import sys

VERBS = ("run", "report", "perturb", "study", "calibrate", "bench")


def main() -> int:
    """Hand the arguments to the verb's module and return its exit code."""
    verb, *rest = sys.argv[1:] or [""]
    if verb not in VERBS:
        given = "no verb" if verb in ("", "-h", "--help") else f"no verb '{verb}'"
        print(f"cl_nvrm: {given}; write cl-nvrm {' or '.join(VERBS)} --help", file=sys.stderr)
        return 0 if verb in ("-h", "--help") else 2
    if verb == "bench":
        from cl_nvrm.bench.__main__ import main as measure

        return measure(rest)
    if verb == "report":
        from cl_nvrm.report.__main__ import main as report

        return report(rest)
    if verb == "perturb":
        from cl_nvrm.perturb.__main__ import main as perturb

        return perturb(rest)
    if verb == "study":
        from cl_nvrm.study.__main__ import main as study

        return study(rest)
    if verb == "calibrate":
        from cl_nvrm.calibrate import main as calibrate

        return calibrate(rest)
    from cl_nvrm import run

    return run.main(rest)


if __name__ == "__main__":
    sys.exit(main())
