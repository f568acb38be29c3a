"""What a run is, what came of it, and the names and texts that stand for both: plain values, no torch."""

from cl_nvrm.spec.runs import SCHEMA, Precision, RunResult, RunSpec, Status, canonical_json, derived_seed, text_digest

__all__ = ["SCHEMA", "Precision", "RunResult", "RunSpec", "Status", "canonical_json", "derived_seed", "text_digest"]
