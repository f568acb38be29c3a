import json
import random
import socket
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import settings

ROOT = Path(__file__).resolve().parent.parent
settings.register_profile("any machine", deadline=None)  # a busy one is not a failure
settings.load_profile("any machine")


@pytest.fixture(autouse=True, scope="session")
def _own_cache(tmp_path_factory):
    """Nothing is read from, or written to, the user's cache; one torch thread, as in a worker."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        patch.setenv("OMP_NUM_THREADS", "1")
        torch.set_num_threads(1)
        yield


@pytest.fixture(autouse=True)
def _no_outside(request, monkeypatch):
    """No test depends on data sets of this machine unless it says so, and none reaches the network."""
    if request.node.get_closest_marker("data") is None:
        monkeypatch.delenv("CL_NVRM_DATA", raising=False)

    connect = socket.create_connection

    def local_only(address, *arguments, **keywords):
        if address[0] not in ("127.0.0.1", "::1", "localhost"):
            raise OSError("the tests have no network")
        return connect(address, *arguments, **keywords)

    monkeypatch.setattr(socket, "create_connection", local_only)


@pytest.fixture
def toy_spec():
    """Make the spec of a short toy run: toy_spec("ewc+nvrm", seed=1, benchmark="toy:heads=true")."""
    from cl_nvrm.spec import RunSpec, grammar

    def make(strategy="naive", benchmark="toy", optimizer="adam", **changes):
        values = {"seed": 0, "epochs": 2, "batch_size": 32, "lr": 3e-3, "weight_decay": 0.0}
        values |= {"dataset": "synthetic", "dataset_sha256": ""} | changes
        return RunSpec(
            strategy=grammar.canonical(grammar.parse_sum(strategy)),
            benchmark=str(grammar.parse("benchmarks", benchmark)),
            optimizer=str(grammar.parse("optimizers", optimizer)),
            **values,
        )

    return make


@pytest.fixture
def toy_bits(toy_spec):
    """Return the fingerprint of the final weights of a toy run."""
    from cl_nvrm.training.train import run_one

    def bits(strategy, **changes):
        result = run_one(toy_spec(strategy, **changes), threads=1)
        assert result.status == "done", result.error
        return result.provenance["weights_sha256"]

    return bits


@pytest.fixture
def train_toy():
    """Train a model on toy tasks under given plug-ins, in our strategy or in another one; return (strategy, model)."""

    def train(
        plugins,
        *,
        heads=False,
        tasks=2,
        model=None,
        optimizer=None,
        strategy_class=None,
        benchmark=None,
        epochs=1,
        **more,
    ):
        from cl_nvrm.spec import catalog
        from cl_nvrm.training.loop import Strategy

        benchmark = benchmark or catalog.maker("benchmarks", "toy")(tasks=tasks, heads=heads, samples=128, seed=0)
        random.seed(0)
        torch.manual_seed(0)
        model = model or benchmark.model()
        optimizer = optimizer(model) if optimizer else torch.optim.Adam(model.parameters(), lr=3e-3)
        own = {"seed": 0} if strategy_class is None else {"evaluator": None}
        strategy = (strategy_class or Strategy)(
            model=model,
            optimizer=optimizer,
            criterion=torch.nn.CrossEntropyLoss(),
            train_mb_size=32,
            train_epochs=epochs,
            plugins=list(plugins),
            **own,
            **more,
        )
        for experience in benchmark.streams().train_stream:
            strategy.train(experience)
        return strategy, model

    return train


@pytest.fixture
def plug_in(monkeypatch, tmp_path):
    """Write a file into a folder that CL_NVRM_PLUGINS might name: plug_in("strategies/my_method.py", text)."""
    import cl_nvrm

    folder = tmp_path / "theirs"
    folder.mkdir()
    monkeypatch.setattr(cl_nvrm, "__path__", [*cl_nvrm.__path__, str(folder)])

    def write(path, text):
        file = folder / path
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(text.encode() if isinstance(text, str) else text)
        return file

    yield write
    for name, module in list(sys.modules.items()):
        if name.startswith("cl_nvrm.") and str(getattr(module, "__file__", "")).startswith(str(folder)):
            del sys.modules[name]


@pytest.fixture
def cli(capsys, monkeypatch, tmp_path):
    """Run the command line in an empty folder; return (exit code, stdout, stderr)."""
    from cl_nvrm.run import main

    monkeypatch.chdir(tmp_path)

    def run(*arguments):
        code = main([str(a) for a in arguments])
        out, err = capsys.readouterr()
        return code, out, err

    return run


@pytest.fixture
def cli_json(cli):
    """Run a toy sweep in this process; return the JSON object."""

    def run(*arguments):
        code, out, err = cli("--benchmark", "toy", "--jobs", 1, "--format", "json", "--quiet", *arguments)
        assert code == 0, err
        return json.loads(out)

    return run
