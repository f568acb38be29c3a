"""``python -m cl_nvrm.runs``: the runs in stores: list, show, compare, export, move, delete, check, disk."""
