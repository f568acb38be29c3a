"""What the page on Python shows works as it stands, on less work."""

import re
from pathlib import Path

import pytest
from PIL import Image

ROOT = Path(__file__).resolve().parent.parent
PAGE = (ROOT / "cl_nvrm" / "PYTHON.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
FILES = re.findall(r"`mine/(\w+/\w+\.py)`:\n\n```python\n(.*?)```", PAGE, re.DOTALL)
EXAMPLES = [block for block in BLOCKS if block not in dict(FILES).values()]
LESS = {
    'benchmark="permuted-mnist"': 'benchmark="toy:samples=64,tasks=2"',
    "trials=10": "trials=2",
    "cl.run(": "cl.run(jobs=1, strategy=",
    "split-mnist:tasks=2": "split-mnist:tasks=2,width=8",
    'benchmark="noisy-mnist:rate=0.2"': 'benchmark="noisy-mnist:rate=0", epochs=1, data="animals", data_dir="pictures"',
}


@pytest.fixture
def a_user(tmp_path, monkeypatch, plug_in):
    """A folder of a user with files and images of their own; Avalanche's data set is there without a download."""
    from cl_nvrm.spec import catalog

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    for path, text in FILES:
        plug_in(path, text)
    for part in ("train", "test"):
        for grey, name in enumerate(("cat", "cow", "dog", "owl")):
            folder = tmp_path / "pictures" / "animals" / part / name
            folder.mkdir(parents=True)
            for number in range(4):
                Image.new("L", (8, 8), 50 * grey + number).save(folder / f"{number}.png")
    toy = catalog.maker("benchmarks", "toy")(inputs=784, classes=10, samples=60, tasks=2, seed=0)
    monkeypatch.setattr("avalanche.benchmarks.SplitMNIST", lambda n_experiences: toy.streams())


def test_the_page_has_an_example_of_each():
    assert {path.partition("/")[0] for path, _ in FILES} == {"models", "benchmarks"}
    wanted = ("cl.run(", "cl.load(", ".model(0)", "RunSpec", "NVRMPlugin", "cl_nvrm.optim import NVRM", "data_dir=")
    assert all(word in PAGE for word in wanted) and len(EXAMPLES) >= 7
    assert all(word in PAGE for word in LESS)


def test_every_example_of_the_page_runs(a_user, capsys):
    names = {}
    for block in EXAMPLES:
        for text, less in LESS.items():
            block = block.replace(text, less)
        exec(block, names)
    out, err = capsys.readouterr()
    assert "ewc+nvrm, lr 0.001  (n = 2, %)" in out and "diverged" in out and "Traceback" not in err
    assert Path("mean_accuracy.png").stat().st_size > 1000
    assert [len(names[name]) for name in ("results", "fast", "kept")] == [10, 4, 1]
    assert 0 <= names["right"] <= 1 and [path.name for path in Path("reports").iterdir()] == ["runs"]
