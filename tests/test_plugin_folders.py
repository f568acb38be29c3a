"""Folders of plug-ins as they are in life: with leftovers, broken files and wrong names."""

import json
import os
import subprocess
import sys
from pathlib import Path
from random import Random

import pytest
import torch

from cl_nvrm.errors import UserError
from cl_nvrm.spec import catalog, folders, grammar

PLUGIN = '"""A stranger\'s strategy."""\n\n\ndef plugin(*, strength: float = 0.5) -> None: ...\n'
ROOT = Path(__file__).resolve().parent.parent

# what lies in strategies/ beside mine.py, and what is said to who asks for 'x'; None: it works
STRAYS = {
    "an editor's lock": (lambda folder: (folder / ".#x.py").symlink_to("user@host.1234"), "No 'x' in strategies/"),
    "a Mac's leftover": (lambda folder: (folder / "._x.py").write_bytes(b"\x00\x05\x16\x07\xff"), "No 'x'"),
    "a folder": (lambda folder: (folder / "x.py").mkdir(), "x.py is no file"),
    "a pipe": (lambda folder: os.mkfifo(folder / "x.py"), "x.py is no file"),
    "a link to nothing": (lambda folder: (folder / "x.py").symlink_to(folder / "gone.py"), "x.py is no file"),
    "a link to itself": (lambda folder: (folder / "x.py").symlink_to(folder / "x.py"), "x.py is no file"),
    "without the function": (lambda folder: (folder / "x.py").write_text("y = 1\n"), "x.py defines no function plugin"),
    "empty": (lambda folder: (folder / "x.py").touch(), "x.py defines no function plugin(…)"),
    "UTF-16": (
        lambda folder: (folder / "x.py").write_bytes(PLUGIN.encode("utf-16")),
        "x.py defines no function plugin",
    ),
    "latin-1": (
        lambda folder: (folder / "x.py").write_bytes(PLUGIN.replace("A", "Ä").encode("latin-1")),
        "cannot be imported from",
    ),
    "latin-1 that says so": (
        lambda folder: (folder / "x.py").write_bytes(b"# coding: latin-1\n# \xc4\n" + PLUGIN.encode()),
        None,
    ),
    "a BOM": (lambda folder: (folder / "x.py").write_bytes(b"\xef\xbb\xbf" + PLUGIN[29:].lstrip().encode()), None),
    "no newline": (lambda folder: (folder / "x.py").write_text(PLUGIN.rstrip()), None),
    "a hyphen": (lambda folder: (folder / "x-y.py").write_text(PLUGIN), "No 'x'"),
    "a bad name": (lambda folder: (folder / "x.y.py").write_text(PLUGIN), "No 'x'"),
    "a syntax error": (lambda folder: (folder / "x.py").write_text("def plugin(:\n"), "SyntaxError"),
    "null bytes": (lambda folder: (folder / "x.py").write_text(PLUGIN + "\0"), "null bytes"),
    "sys.exit": (lambda folder: (folder / "x.py").write_text(f"import sys\n{PLUGIN}sys.exit(0)\n"), "SystemExit: 0"),
    "an error of two lines": (
        lambda folder: (folder / "x.py").write_text(f"{PLUGIN}raise OSError('one\\ntwo')\n"),
        "OSError: one two",
    ),
    "taken away again": (
        lambda folder: (folder / "x.py").write_text(f"{PLUGIN}del plugin\n"),
        "has no function plugin",
    ),
    "no function": (lambda folder: (folder / "x.py").write_text(f"{PLUGIN}plugin = 42\n"), "must be a function"),
    "an empty package": (lambda folder: (folder / "__init__.py").touch(), "No 'x' in strategies/"),
    "a broken package": (lambda folder: (folder / "__init__.py").write_text("1 / 0\n"), "No 'x' in strategies/"),
    "a package of that name": (
        lambda folder: (
            (folder / "x.py").write_text(PLUGIN),
            (folder / "x").mkdir(),
            (folder / "x/__init__.py").touch(),
        ),
        "rename the file",
    ),
    "caches": (lambda folder: ((folder / "__pycache__").mkdir(), (folder / "x.pyc").touch()), "No 'x' in strategies/"),
}


@pytest.mark.parametrize(("stray", "says"), STRAYS.values(), ids=STRAYS.keys())
def test_a_stray_file_breaks_nothing_and_is_named_to_who_asks(plug_in, cli, stray, says):
    from cl_nvrm.run.flags import _parser

    stray(plug_in("strategies/mine.py", PLUGIN).parent)
    assert "mine" in _parser().format_help()
    assert {"mine", "ewc"} <= set(catalog.names("strategies"))
    assert str(grammar.parse("strategies", "mine")) == "mine:strength=0.5"
    assert str(grammar.parse("strategies", "naive")) == "naive"
    code, out, _ = cli("--list", "strategies")
    assert code == 0 and "mine: A stranger's strategy." in out and "ewc: " in out
    code, _, err = cli("--benchmark", "toy", "--strategy", "x", "--dry-run")
    assert (code, len(err.splitlines())) == ((0 if says is None else 2), 1)
    assert (says or "1 run") in err


def test_a_look_up_reads_the_file_of_that_name_alone(monkeypatch, plug_in):
    plug_in("strategies/my_method.py", "")
    read = []
    monkeypatch.setattr(Path, "read_text", lambda self, **_: read.append(self.stem) or "def plugin():\n")
    for kind, name in (("strategies", "my-method"), ("strategies", "ewc"), ("models", "mlp"), ("models", "none")):
        assert folders.named(kind, name) == folders.files(kind).get(name, [])
    read.clear()
    assert folders.named("strategies", "my-method") and read == ["my_method"]


def test_a_file_that_cannot_be_read_is_named_to_who_asks(plug_in, cli, monkeypatch):
    plug_in("strategies/x.py", PLUGIN)
    opened = Path.read_text

    def refuse(path, *arguments, **keywords):
        if path.name == "x.py":
            raise PermissionError(13, "Permission denied", str(path))
        return opened(path, *arguments, **keywords)

    monkeypatch.setattr(Path, "read_text", refuse)
    assert "x" in catalog.names("strategies") and cli("--list", "strategies")[0] == 0


def test_a_name_that_cannot_be_written_is_told_in_the_list(plug_in, cli):
    for name in ("2fast.py", "my method.py", "méthode.py", "_private.py"):
        plug_in(f"strategies/{name}", PLUGIN)
    code, out, err = cli("--list", "strategies")
    assert code == 0 and "fast" not in out
    assert [name for name in ("2fast.py", "my method.py", "méthode.py") if f"{name} is left out: a name" in err] == [
        "2fast.py",
        "my method.py",
        "méthode.py",
    ]
    assert "_private" not in err
    assert "left out" not in cli("--benchmark", "toy", "--dry-run")[2]


# what each kind's file may look like, and a command that uses it
KINDS = {
    "strategies/own.py": ("def plugin(*, a: int = 1): ...\n", ["--strategy", "own:a=2"]),
    "models/own.py": (
        "from torch import nn\n\n\ndef model(shape, classes, *, width: int = 4):\n"
        "    return nn.Sequential(nn.Flatten(), nn.Linear(shape[0] * shape[1] * shape[2], classes))\n",
        ["--benchmark", "noisy-mnist:subset=64,model=own(width=5)", "--data", "digits"],
    ),
    "optim/own.py": (
        "from torch.optim import SGD\n\n\ndef optimizer(params, *, lr, weight_decay, momentum: float = 0.0):\n"
        "    return SGD(params, lr=lr, weight_decay=weight_decay, momentum=momentum)\n",
        ["--optimizer", "own:momentum=0.5"],
    ),
    "schedules/own.py": (
        "def schedule(*, factor: float = 0.5):\n    return lambda share: factor\n",
        ["--schedule", "own"],
    ),
    "benchmarks/own.py": (
        "from cl_nvrm.spec import catalog\n\n\ndef benchmark(*, tasks: int = 2, seed):\n"
        "    return catalog.maker('benchmarks', 'toy')(tasks=tasks, samples=64, seed=seed)\n",
        ["--benchmark", "own:tasks=1"],
    ),
}
KINDS |= {
    "optimizers/own.py": KINDS["optim/own.py"],
    "optim/own_schedule.py": (KINDS["schedules/own.py"][0], ["--schedule", "own-schedule"]),
}


@pytest.mark.parametrize("path", KINDS)
def test_a_folder_of_any_kind_works_as_that_of_strategies(plug_in, cli_json, path):
    text, words = KINDS[path]
    plug_in(path, f'"""A stranger\'s own."""\n\n{text}')
    (run,) = cli_json("--epochs", "1", "--no-plots", *words)["runs"]
    assert run["status"] == "done"
    (stored,) = Path("reports/runs").glob("*.json")
    assert "own" in str(json.loads(stored.read_text())["spec"])


@pytest.mark.parametrize("path", ["models/mlp.py", "optim/sgd.py", "strategies/ewc.py"])
def test_a_name_that_is_ours_is_refused_and_takes_no_other_with_it(plug_in, path):
    kind, function = {"m": ("models", "model"), "o": ("optimizers", "optimizer"), "s": ("strategies", "plugin")}[
        path[0]
    ]
    plug_in(path, f"def {function}(): ...\n")
    with pytest.raises(UserError, match=f"claimed more than once: .*, .*theirs/{path}"):
        catalog.maker(kind, Path(path).stem)
    assert catalog.maker(kind, {"models": "ioc-mlp", "optimizers": "adam", "strategies": "si"}[kind])


def test_a_file_with_the_name_of_a_module_of_ours_is_told_to_take_another(plug_in):
    plug_in("optim/wrapper.py", "def optimizer(params, *, lr, weight_decay): ...\n")
    with pytest.raises(UserError, match=r"'wrapper' in optimizers/ cannot be imported from .*rename the file"):
        catalog.maker("optimizers", "wrapper")


def test_a_folder_that_is_named_no_longer_is_forgotten(monkeypatch, tmp_path):
    import cl_nvrm

    for number in (1, 2):
        (tmp_path / str(number) / "strategies").mkdir(parents=True)
        (tmp_path / str(number) / "strategies" / "twice.py").write_text(PLUGIN.replace("0.5", str(number)))
        with monkeypatch.context() as patch:
            patch.setattr(cl_nvrm, "__path__", [*cl_nvrm.__path__, str(tmp_path / str(number))])
            assert grammar.parse("strategies", "twice").settings == {"strength": number}


# a benchmark with another network
TOY = (
    "from dataclasses import replace\nfrom cl_nvrm.spec import catalog\n\ndef benchmark(*, seed):\n"
    "    return replace(catalog.maker('benchmarks', 'toy')(samples=64, seed=seed), model={})\n"
)
BROKEN = {
    "no default": ("def plugin(*, strength: float): ...\n", "'strength' of 'x' in strategies/ needs a default"),
    "no default by position": ("def plugin(strength): ...\n", "'strength' of 'x' in strategies/ needs a default"),
    "seed by position alone": (
        "def plugin(seed, /): ...\n",
        "plugin of 'x' in strategies/ must take nothing by position",
    ),
    "a seed of its own": ("def plugin(*, seed: int = 0): ...\n", "'seed' of 'x' in strategies/ may have no default"),
    "no plain default": (
        "def plugin(*, a: tuple = ()): ...\n",
        "'a' of 'x' in strategies/ needs a default that is a bool",
    ),
    "an infinite default": (
        "def plugin(*, a: float = float('inf')): ...\n",
        "'a' of 'x' in strategies/ needs a finite",
    ),
    "an empty default": ("def plugin(*, a: str = ''): ...\n", "'a' of 'x' in strategies/ needs a default that can be"),
    "a default with a comma": ("def plugin(*, a: str = '1,2'): ...\n", "that can be written in a command, not '1,2'"),
    "an error": ("def plugin():\n    raise RuntimeError('no\\nway')\n", "x: RuntimeError: no way (x.py, line 2)"),
    "a key": ("def plugin():\n    return {}['a']\n", "x: KeyError: 'a' (x.py, line 2)"),
    "an error of torch": (
        "import torch\n\n\ndef plugin():\n    torch.nn.Linear(-1, 'x')\n",
        "(x.py, line 5)",
    ),
    "leaves": ("def plugin():\n    raise SystemExit(0)\n", "x: SystemExit: 0 (x.py, line 2)"),
    "a number": ("def plugin():\n    return 42\n", "x: plugin(…) must return an Avalanche plug-in or None, not int"),
    "a list": ("def plugin():\n    return []\n", "must return an Avalanche plug-in or None, not list"),
    "a class": (
        "from avalanche.core import SupervisedPlugin\n\n\ndef plugin():\n    return SupervisedPlugin\n",
        "must return an Avalanche plug-in or None, not the class SupervisedPlugin",
    ),
}


@pytest.mark.parametrize(("text", "says"), BROKEN.values(), ids=BROKEN.keys())
def test_a_strategy_that_breaks_the_contract_is_one_line(plug_in, cli, text, says):
    plug_in("strategies/x.py", text)
    code, _, err = cli("--benchmark", "toy", "--strategy", "x")
    assert (code, len(err.splitlines())) == (2, 1) and says in err
    code, out, _ = cli("--list", "strategies")
    assert code == 0 and "ewc: " in out


@pytest.mark.parametrize(
    ("path", "text", "words", "says"),
    [
        ("benchmarks/x.py", "def benchmark(): ...\n", ["--benchmark", "x"], "must return a Benchmark, not NoneType"),
        (
            "benchmarks/x.py",
            "def benchmark(a, b, *, seed): ...\n",
            ["--benchmark", "x"],
            "'b' of 'x' in benchmarks/ needs",
        ),
        (
            "benchmarks/x.py",
            "def benchmark():\n    from cl_nvrm.benchmark import Benchmark\n"
            "    return Benchmark('none', [], [], model=None, chance=1)\n",
            ["--benchmark", "x"],
            "x: needs a training task, and as many test tasks",
        ),
        ("benchmarks/x.py", TOY.format("lambda: 42"), ["--benchmark", "x"], "must return a torch module, not int"),
        ("benchmarks/x.py", TOY.format("lambda: {}['a']"), ["--benchmark", "x"], "x: KeyError: 'a' (x.py, line 5)"),
        ("optim/x.py", "def optimizer(params, *, lr): ...\n", ["--optimizer", "x"], "must return a torch optimizer"),
        ("optim/x.py", "def optimizer(*, lr): ...\n", ["--optimizer", "x"], "must take parameters by position"),
        (
            "optim/x.py",
            "def optimizer(params, *, lr=0.1): ...\n",
            ["--optimizer", "x"],
            "'lr' of 'x' in optimizers/ may have",
        ),
        (
            "schedules/x.py",
            "def schedule():\n    return 0.5\n",
            ["--schedule", "x"],
            "must return a function of the share",
        ),
        ("models/x.py", "def model(shape, classes): ...\n", ["--model", "x"], "x: model(…) must return a torch module"),
        ("models/x.py", "def model(classes): ...\n", ["--model", "x"], "must take shape and classes by position"),
    ],
)
def test_so_is_any_other_plug_in(plug_in, cli, path, text, words, says):
    plug_in(path, text)
    first = (
        ["--benchmark", "noisy-mnist:subset=64", "--data", "digits"] if "--model" in words else ["--benchmark", "toy"]
    )
    code, _, err = cli(*(first if "--benchmark" not in words else []), *words)
    assert (code, len(err.splitlines())) == (2, 1) and says in err


@pytest.mark.parametrize("said", ["3", "[1]", "{'a': 3}", "{'a': ('x', 'y')}", "{'a': (1, 2, 3)}", "{'a': (2, 1)}"])
def test_ranges_that_are_none_are_one_line(plug_in, said):
    plug_in("strategies/x.py", f"SEARCH = {said}\n\n\ndef plugin(*, a: float = 1.0): ...\n")
    with pytest.raises(UserError, match=r"^SEARCH of cl_nvrm.strategies.x"):
        catalog.search(catalog.maker("strategies", "x"))


@pytest.mark.parametrize(
    ("said", "says"),
    [
        ("[1]", "noisy-mnist: RECIPES of cl_nvrm.models.x must be as"),
        ("{'classification': 3}", "noisy-mnist: RECIPES of cl_nvrm.models.x must be as"),
        ("{'classification': {'epochs': 'x'}}", "noisy-mnist: a recipe's epochs is something like 1, not 'x'"),
        ("{'classification': {'epochs': 0}}", "noisy-mnist: a recipe's epochs is something like 1, not 0"),
        ("{'classification': {'lr': None}}", "noisy-mnist: a recipe's lr is something like 0.001, not None"),
    ],
)
def test_recipes_that_are_none_are_one_line(plug_in, cli, said, says):
    plug_in("models/x.py", f"RECIPES = {said}\n\n\ndef model(shape, classes): ...\n")
    code, _, err = cli("--benchmark", "noisy-mnist:model=x", "--data", "digits")
    assert (code, len(err.splitlines())) == (2, 1) and says in err


@pytest.fixture
def named(monkeypatch, tmp_path):
    """Return what a command says, on stderr, of a folder that CL_NVRM_PLUGINS names."""
    import cl_nvrm

    def remarks(folder):
        monkeypatch.setattr(cl_nvrm, "__path__", [*cl_nvrm.__path__, str(folder)])
        return folders.remarks()

    return remarks


def test_a_folder_in_which_nothing_is_found_is_told(named, tmp_path):
    (tmp_path / "strategies").mkdir()
    (tmp_path / "strategies" / "x.py").write_text(PLUGIN)
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    (tmp_path / "file").touch()
    assert named(tmp_path) == []
    for folder, says in {
        "strategies": f"{tmp_path / 'strategies'} holds no folder strategies, benchmarks, optim, optimizers, models",
        "gone": f"{tmp_path / 'gone'} cannot be read (No such file or directory)",
        "file": "cannot be read (Not a directory)",
        "loop": "cannot be read (Too many levels of symbolic links)",
    }.items():
        *_, last = named(tmp_path / folder)
        assert last.startswith("CL_NVRM_PLUGINS: ") and says in last


def test_so_are_folders_within_that_cannot_be_read(named, tmp_path, monkeypatch):
    (tmp_path / "strategies").mkdir()
    listed = Path.iterdir

    def refuse(path):
        if path == tmp_path / "strategies":
            raise PermissionError(13, "Permission denied", str(path))
        return listed(path)

    monkeypatch.setattr(Path, "iterdir", refuse)
    assert named(tmp_path) == [f"CL_NVRM_PLUGINS: {tmp_path / 'strategies'} cannot be read (Permission denied)"]
    assert "ewc" in catalog.names("strategies")


def test_the_commands_say_so(cli, monkeypatch, tmp_path):
    import cl_nvrm

    monkeypatch.setattr(cl_nvrm, "__path__", [*cl_nvrm.__path__, str(tmp_path / "gone")])
    for words in (["--list", "strategies"], ["--benchmark", "toy", "--dry-run"], ["--strategy", "mine"]):
        assert f"note: CL_NVRM_PLUGINS: {tmp_path / 'gone'} cannot be read" in cli(*words)[2]


def test_the_variable_takes_a_list_with_homes_and_gaps(tmp_path):
    for place in ("home/a", "b"):
        (tmp_path / place / "strategies").mkdir(parents=True)
        (tmp_path / place / "strategies" / f"in_{place[-1]}.py").write_text(PLUGIN)
    (tmp_path / "b" / "strategies" / "__init__.py").write_text("1 / 0")
    named = os.pathsep.join(["", "~/a", "", "b", "~nobody-of-that-name/c", str(tmp_path / "b"), ""])
    code = (
        "import os, cl_nvrm.strategies.ewc\nos.chdir('/')\n"
        "from cl_nvrm.spec import catalog, folders, grammar\nprint(catalog.names('strategies'))\n"
        "print(*grammar.parse_sum('in-a+in-b+ewc'), sep='+')\nprint(*folders.remarks())"
    )
    environment = {"CL_NVRM_PLUGINS": named, "HOME": str(tmp_path / "home"), "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    names, terms, remarks = done.stdout.splitlines()
    assert "'in-a', 'in-b'" in names and "'ewc'" in names
    assert "in-a:strength=0.5+in-b:strength=0.5" in terms
    assert remarks.count("CL_NVRM_PLUGINS") == 1 and "~nobody-of-that-name/c cannot be read" in remarks


def damaged(source, random):
    """Return a file as an accident leaves it: cut off, with other bytes, without some lines, with other words."""
    for _ in range(random.choice([1, 2, 5])):
        at = random.randrange(len(source) + 1)
        lines = source.split(b"\n")
        del lines[random.randrange(len(lines))]
        word = random.choice([b"float", b"str", b"= 0", b"return", b"Literal", b"seed", b"*,"])
        other = random.choice([b"None", b"42", b"", b"raise KeyError", b"*a,", b"**k"])
        byte = bytes([random.randrange(256)])
        source = random.choice(
            [source[:at], source[:at] + byte + source[at + 1 :], b"\n".join(lines), source.replace(word, other)]
        )
    return source


@pytest.mark.parametrize("number", [20, pytest.param(1000, marks=pytest.mark.slow)])
def test_a_damaged_file_works_or_is_one_line(plug_in, number):
    random = Random(number)
    arguments = {
        "strategies": ((), {"seed": 0}),
        "models": (((3, 32, 32), 10), {}),
        "optimizers": (([torch.zeros(2, requires_grad=True)],), {"lr": 0.1, "weight_decay": 0.0, "seed": 0}),
        "schedules": ((), {}),
    }
    outcomes = set()
    for k in range(number):
        kind = random.choice(list(arguments))
        file = random.choice([file for files in folders.files(kind).values() for file in files])
        path = plug_in(f"{kind}/x{k}.py", damaged(file.read_bytes(), random))
        positional, keywords = arguments[kind]
        try:
            term = grammar.parse(kind, f"x{k}")
            assert grammar.parse(kind, str(term)) == term
            term.make(*positional, **keywords)
            outcomes.add("works")
        except UserError as problem:
            assert f"x{k}" in str(problem) and "\n" not in str(problem)
            outcomes.add("one line")
        path.unlink()
    assert outcomes == {"works", "one line"}
