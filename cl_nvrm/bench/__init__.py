"""``python -m cl_nvrm.bench``: how fast this is, as ratios measured side by side; one module a subject."""
