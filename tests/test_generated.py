"""Whatever is typed, and whatever has become of files: no traceback, a documented code, nothing written if refused."""

import contextlib
import io
import json
import random
import signal
from importlib import import_module

import pytest
from PIL import Image

import cl_nvrm
from cl_nvrm.__main__ import VERBS
from cl_nvrm.data import sources
from cl_nvrm.run.flags import _parser
from cl_nvrm.spec import catalog
from cl_nvrm.sweep.store import Store

JUNK = (
    "", " ", "0", "-1", "1", "2", "7", "nan", "inf", "-inf", "1e-300", "1e400", "9" * 400, "9" * 5000, "x" * 5000,
    "0x10", "a|b", "1|2", "|", "=", ":", "+", "++", ",", "λ", "\udcff", "None", "true", "..", "../x", "/", "/dev/null",
    "{}", "%s", "-", "--", "---", "ewc:", "ewc:lambda", "ewc:lambda=", "ewc:lambda=1,lambda=2", "ewc:lambda=1|2|3+nvrm",
    "naive+naive",
    "toy:tasks=0", "toy:heads=true", "toy:samples=-1", "toy:tasks=2,,", "mlp(", "mlp(width=8)", "cosine:x=1",
    "sgd:momentum=-1",
)  # fmt: skip
USUAL = {
    "--trials": "1 2 3", "--seed": "0 7", "--tasks": "1 2", "--epochs": "1 2", "--iterations": "3 20",
    "--batch-size": "8 64", "--lr": "1e-3 0.1 1e-3|1e-2", "--weight-decay": "0 1e-4", "--eval-every": "0 5",
    "--tune": "0 2", "--tune-tasks": "1", "--tune-seeds": "1 2", "--tune-searches": "1 2",
    "--tune-on": "digits", "--data": "auto digits", "--data-dir": "here",
    "--device": "cpu auto", "--jobs": "1 2 auto", "--scheduler": "tcp://127.0.0.1:1", "--out": "there",
    "--track": "csv", "--frontier": "here there", "--levels": "95 90|95", "--slack": "1", "--margin": "1 0.5",
    "--primary": "nvrm-naive",
}  # fmt: skip
KINDS = {
    "--strategy": "strategies",
    "--benchmark": "benchmarks",
    "--optimizer": "optimizers",
    "--schedule": "schedules",
}
SMALL = ("--benchmark", "toy:tasks=2,samples=20", "--jobs", "1", "--no-plots", "--quiet")
# what only a training hears of, and what makes one long, is left to lines that train nothing
SAFE = (
    "--strategy",
    "--seed",
    "--lr",
    "--weight-decay",
    "--eval-every",
    "--format",
    "--stack",
    "--fresh",
    "--schedule",
)


def flags():
    """The flags of a run with the values they may have, if these can be listed."""
    found = {}
    for action in _parser()._actions:
        for name in action.option_strings:
            if name.startswith("--") and name != "--help":
                listed = catalog.names(KINDS[name]) if name in KINDS else [str(c) for c in action.choices or ()]
                values = listed or USUAL[name].split() if action.nargs != 0 else None
                found[name] = values
    return found


def value(chance, flag, known, junk):
    """A value: one of those known, perhaps with a parameter or a second name, or junk, as often as ``junk`` says."""
    if chance.random() < junk:
        return chance.choice(JUNK)
    name = chance.choice(known)
    if flag in KINDS and chance.random() < 0.4:
        names = [*catalog.parameters(catalog.maker(KINDS[flag], name)), *(("zz",) if chance.random() < junk else ())]
        if names:
            values = JUNK if chance.random() < junk else ("1", "2", "0.1", "0.5|1", "true")
            name += f":{chance.choice(names)}={chance.choice(values)}"
    if flag == "--strategy" and chance.random() < 0.3:
        name += f"+{chance.choice(known)}"
    return name


def run_line(chance, known):
    """A command line of the main command, which trains nothing, or little."""
    trains = chance.random() < 0.05
    words = [*SMALL, *(("--epochs", "1") if trains else ("--dry-run",))]
    junk = chance.choice((0, 0, 0.05, 0.4))
    for _ in range(chance.randrange(1, 5)):
        name = chance.choice(SAFE) if trains else chance.choice(list(known))
        if name == "--benchmark" and chance.random() < 0.7:
            continue  # the others take longer to plan
        words += [name] if known[name] is None else [name, value(chance, name, known[name], junk)]
        if not trains and chance.random() < junk / 2:
            words += [
                f"--{chance.choice(('lambda', 'rho', 'model', 'width', 'frobnicate', 'patience'))}",
                chance.choice(JUNK),
            ]
    return [word for word in words if word != "--compile" or not trains], trains


def spoiled(chance, words):
    """The line with a word cut, dropped, doubled or swapped."""
    words = list(words)
    place = chance.randrange(len(words))
    match chance.randrange(5):
        case 0:
            words[place] = words[place][: chance.randrange(len(words[place]) + 1)]
        case 1:
            del words[place]
        case 2:
            words.insert(place, words[place])
        case 3:
            other = chance.randrange(len(words))
            words[place], words[other] = words[other], words[place]
    return words


def other_line(chance, verb):
    """A command line of another verb; of studies and measurements, one that is always refused."""
    names = {
        "report": ("--out", "--title", "here", "--title="),
        "perturb": ("--run", "--scales", "--draws", "--noise", "--relative", "--b", "--seed", "--format", "here"),
        "study": ("--scale", "--out", "--trials", "--jobs", "--quiet", "--data-dir"),
        "calibrate": ("--lambda", "--variability", "--samples", "--lr", "--strategy", "--trials", "--quiet"),
        "bench": ("--subject", "--quick", "--data", "--out", "--device"),
    }[verb]
    first = {"study": ["no-such-study"], "bench": ["--subject", "none"], "calibrate": [*SMALL[:2], "--epochs", "1"]}
    words = list(first.get(verb, []))
    for _ in range(chance.randrange(4)):
        words += [chance.choice(names), *([chance.choice(JUNK)] if chance.random() < 0.8 else [])]
    return words


def lines(count, seed):
    """Yield (verb, words): command lines of all verbs, most of them of the main command."""
    chance, known = random.Random(seed), flags()
    for _ in range(count):
        if chance.random() < 0.15:
            verb = chance.choice(("report", "perturb", "study", "calibrate", "bench"))
            yield verb, other_line(chance, verb)
            continue
        words, trains = run_line(chance, known)
        if not trains and chance.random() < 0.2:
            words = spoiled(chance, words)
            words = words if "--dry-run" in words else [*words, "--dry-run"]
        yield "run", words


def damaged(chance, contents, others):
    """The bytes of a file, damaged: cut, flipped, exchanged for another's, or, as JSON, with a value replaced."""
    match chance.randrange(6):
        case 0:
            return contents[: chance.randrange(len(contents) + 1)]
        case 1:
            flipped = bytearray(contents)
            for _ in range(chance.randrange(1, 9)):
                if flipped:
                    flipped[chance.randrange(len(flipped))] ^= 1 << chance.randrange(8)
            return bytes(flipped)
        case 2:
            return chance.choice(others)
        case 3:
            return bytes(chance.randrange(256) for _ in range(chance.randrange(200)))
        case 4:
            return contents + chance.choice(others)
    try:
        values = json.loads(contents)
    except ValueError:
        return contents.replace(b"0", b"nan", 1)
    place = values
    while isinstance(place, dict | list) and place:
        key = chance.choice(list(place)) if isinstance(place, dict) else chance.randrange(len(place))
        if not isinstance(place[key], dict | list) or chance.random() < 0.3:
            place[key] = chance.choice((None, "text", -1, 1e9, True, [], {}, [[None]], float("nan")))
            break
        place = place[key]
    return json.dumps(values).encode()


CODES = {0, 1, 2, 3, 4}
SECONDS = 30  # of processor time, which others on the machine do not lengthen; on a quiet one nothing takes 10 s
PLUGIN = '''"""A method."""

from avalanche.core import SupervisedPlugin


def plugin(*, strength: float = 1.0) -> SupervisedPlugin:
    """Do nothing."""
    return SupervisedPlugin()
'''


class TooLongError(BaseException):
    """No Exception, which somebody could catch."""


def call(verb, words, *, limit=0):
    """Run a verb in this process; return its code, stdout and stderr.

    ``limit``: the seconds of processor time it may take (0: any).
    """

    def too_long(*_):
        raise TooLongError(f"over {limit} s of processor time")

    out, err = io.StringIO(), io.StringIO()
    before = signal.signal(signal.SIGPROF, too_long)
    signal.setitimer(signal.ITIMER_PROF, limit)
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = import_module(VERBS[verb]).main(words)
    except SystemExit as left:  # --help
        code = left.code or 0
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)
    return code, out.getvalue(), err.getvalue()


def check(verb, words, folder, *, limit=0):
    """Carry out a line where nothing lies, and see that all is as documented."""
    there = sorted(folder.rglob("*"))
    shown = f"{verb} {' '.join(word[:60] for word in words)!r}"
    try:
        code, _, err = call(verb, words, limit=limit)
    except (Exception, TooLongError) as problem:
        raise AssertionError(f"{shown}: {type(problem).__name__}: {problem}") from problem
    assert code in CODES and "Traceback" not in err, f"{shown}: {code} {err}"
    if code in (2, 3):
        told = [line for line in err.splitlines() if line.startswith("cl_nvrm: ")]
        assert len(told) == 1 and len(told[0]) < 9000, f"{shown}: {err}"
        assert sorted(folder.rglob("*")) == there, f"{shown} was refused and wrote"
    return code


@pytest.mark.parametrize(
    ("count", "seed"), [(60, 1), *(pytest.param(2500, seed, marks=pytest.mark.slow) for seed in range(10, 14))]
)
def test_every_line_is_carried_out_or_refused_in_a_line(count, seed, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    codes = []
    for number, (verb, words) in enumerate(lines(count, seed)):
        folder = tmp_path / str(number)
        folder.mkdir()
        monkeypatch.chdir(folder)
        codes.append(check(verb, words, folder, limit=SECONDS if count > 100 else 0))
    assert {0, 2} <= set(codes)


@pytest.fixture
def files(tmp_path, monkeypatch):
    """A store of runs, two data sets, a matrix and a plug-in; return each file with the lines that read it."""
    monkeypatch.chdir(tmp_path)
    small = ["--benchmark", "toy:tasks=2,samples=20", "--epochs", "1", "--jobs", "1", "--quiet", "--no-plots"]
    assert call("run", [*small, "--trials", "3", "--out", "runs"])[0] == 0
    reading = {
        path: [("report", ["runs", "--out", "page"]), ("run", [*small, "--trials", "3", "--out", "runs"])]
        for path in (tmp_path / "runs").glob("*.json")
    }
    data = ["--benchmark", "permuted-mnist:tasks=2,width=4,depth=1", "--data-dir", ".", "--dry-run", "--quiet"]
    for split in ("train", "test"):
        for label in ("cat", "dog"):
            path = tmp_path / "pets" / split / label / "0.png"
            path.parent.mkdir(parents=True)
            Image.new("L", (8, 8), 7).save(path)
            reading[path] = [("run", [*data, "--data", "pets"])]
    matrix = tmp_path / "matrix"
    matrix.write_text("\n".join(" ".join("1.0" if i == j else "0.0" for j in range(10)) for i in range(10)))
    reading[matrix] = [
        ("run", ["--benchmark", "noisy-mnist:subset=32,noise=matrix", "--data", "digits", "--dry-run", "--quiet"])
    ]
    plugin = tmp_path / "strategies" / "theirs.py"
    plugin.parent.mkdir()
    plugin.write_text(PLUGIN)
    monkeypatch.setattr(cl_nvrm, "__path__", [*cl_nvrm.__path__, str(tmp_path)])
    reading[plugin] = [("run", ["--list", "strategies"]), ("run", [*small, "--dry-run", "--strategy", "theirs"])]
    return reading


@pytest.mark.parametrize(("count", "seed"), [(25, 1), pytest.param(1000, 2, marks=pytest.mark.slow)])
def test_damaged_files_are_named_or_left_out(count, seed, files, tmp_path):
    chance = random.Random(seed)
    whole = {path: path.read_bytes() for path in files}
    for _ in range(count):
        path = chance.choice(sorted(whole))
        path.write_bytes(damaged(chance, whole[path], list(whole.values())))
        sources._cached_load.cache_clear()
        for verb, words in files[path]:
            code, _, err = call(verb, words, limit=SECONDS if count > 100 else 0)
            assert code in CODES and "Traceback" not in err, (path, path.read_bytes()[:200], err)
        assert not Store(tmp_path / "runs").load()[1], "what was damaged has been trained again"
        for other, contents in whole.items():
            other.write_bytes(contents)
        for rest in (tmp_path / "runs").glob("*.damaged"):
            rest.unlink()
