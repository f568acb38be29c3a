"""What stands in tables and above them, as values."""

from cl_nvrm.analysis.comparisons import Cell
from cl_nvrm.report import tables
from cl_nvrm.spec import RunResult, RunSpec


def test_a_table_says_what_a_method_keeps_beside_the_network():
    spec = RunSpec("er+lwf", "b", "d", "", 0, 1, 1, "sgd", 0.1, 0.0)
    points = {"er": [{"memory_samples": 1, "memory_bytes": 1}, {"memory_samples": 200, "memory_bytes": 600_000}]}
    points |= {"lwf": [{"memory_bytes": 1}, {"memory_bytes": 30_000}], "ewc": [{"importance_sum": 1.0}], "none": []}
    cell = Cell("er+lwf", spec, (RunResult(spec, "done", ((0.5, 0.5), (0.5, 0.5)), diagnostics=points),))
    assert tables.after_each_task(cell).title == "er+lwf  (n = 1, %; memory 200 samples, 0.63 MB)"
    assert "er+lwf; memory 200 samples, 0.63 MB." in tables.summary([cell], []).note
    plain = Cell("naive", spec, (RunResult(spec, "done", ((0.5,),)),))
    assert tables.after_each_task(plain).title == "naive  (n = 1, %)"
