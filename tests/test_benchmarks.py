"""What every benchmark in the catalog must keep."""

from dataclasses import replace

import pytest
import torch
from avalanche.training.plugins import EvaluationPlugin
from avalanche.training.supervised import Naive

from cl_nvrm import data
from cl_nvrm.data.images import Images, RawImages
from cl_nvrm.errors import UserError
from cl_nvrm.spec import catalog, grammar

SMALL = {"permuted-mnist": "width=16", "split-mnist": "width=16", "rotated-mnist": "width=16", "toy": "samples=64"}
ONE_TASK = "model=mlp(width=16,depth=1)"
SEVERAL = ("split", "permuted", "rotated", "split-cifar10", "split-fashion-mnist")  # any network, several tasks
SMALL |= dict.fromkeys((*SEVERAL, "split-cifar100"), ONE_TASK)
ITS_OWN = {"community-graph": "width=16,nodes=300"}  # one task, and networks of another kind


@pytest.fixture(scope="module")
def images():
    generator = torch.Generator().manual_seed(0)
    x = torch.randint(0, 256, (300, 1, 28, 28), generator=generator, dtype=torch.uint8)
    y = torch.arange(300) % 10
    return Images.standardised("random", RawImages(x, y, x[:100].clone(), y[:100]))


@pytest.fixture
def build(images):
    def make(name, settings="", seed=0):
        settings = settings if name in SMALL else settings.replace(",tasks=2", "")
        if name == "split-cifar100" and "tasks" not in settings:
            settings += ",tasks=5"  # of the ten classes there are here
        if name in ITS_OWN:
            pytest.importorskip("torch_geometric")
        own = (SMALL | ITS_OWN).get(name, ONE_TASK)
        term = grammar.parse("benchmarks", f"{name}:{own}{settings}")
        needed = catalog.needs_data(catalog.maker("benchmarks", name))
        return term.make(*([images] if needed else []), seed=seed)

    return make


@pytest.fixture(params=catalog.names("benchmarks"))
def name(request):
    return request.param


def test_tasks_have_inputs_labels_and_a_model_that_takes_them(name, build):
    benchmark = build(name)
    model = benchmark.model()
    classes = round(1 / benchmark.chance)
    assert len(benchmark.train) == len(benchmark.test) >= (2 if name in SMALL else 1)
    for train, test in zip(benchmark.train, benchmark.test, strict=True):
        for part in (train, test):
            x, y, t = part.gather(torch.arange(5))
            assert x.dtype == torch.float32 and y.dtype == t.dtype == torch.long
            logits = model(x, t) if benchmark.heads > 1 else model(x)
            assert logits.shape == (5, classes)
            assert set(part.targets) == set(range(classes))
            assert part[3][1] == part.targets[3] and torch.equal(part[3][0], x[3])


def test_the_same_seed_gives_the_same_tasks(name, build):
    for one, other in zip(build(name).train, build(name).train, strict=True):
        index = torch.arange(10)
        assert all(torch.equal(a, b) for a, b in zip(one.gather(index), other.gather(index), strict=True))


def test_any_avalanche_strategy_can_train_and_evaluate_on_its_streams(name, build):
    benchmark = build(name, ",tasks=2")
    scenario = benchmark.streams()
    model = benchmark.model()
    strategy = Naive(
        model=model,
        optimizer=torch.optim.SGD(model.parameters(), lr=0.01),
        criterion=torch.nn.CrossEntropyLoss(),
        train_mb_size=32,
        eval_mb_size=64,
        evaluator=EvaluationPlugin(),
    )
    for experience in scenario.train_stream:
        strategy.train(experience)
    strategy.eval(scenario.test_stream)


def test_our_loader_and_avalanches_see_the_same_samples(name, build):
    from cl_nvrm.benchmark import task_data

    benchmark = build(name)
    experience = benchmark.streams().train_stream[len(benchmark.train) - 1]
    assert task_data(experience.dataset.train()) is benchmark.train[-1]
    assert task_data(experience.dataset.subset([3, 1])) is None
    shifted = experience.dataset.replace_current_transform_group((lambda x: x + 1, None))
    assert task_data(shifted) is None
    x, y, *_, t = experience.dataset[7]
    ours = benchmark.train[-1].gather(torch.tensor([7]))
    assert torch.equal(x, ours[0][0]) and y == int(ours[1]) and t == int(ours[2])


MISFITS = ["permuted-mnist:tasks=0", "split-mnist:tasks=3", "split-mnist:width=0", "permuted-mnist:holdout=300"]


@pytest.mark.parametrize("text", [*MISFITS, "permuted-mnist:subset=400", "toy:samples=1"])
def test_sizes_that_do_not_fit_are_refused(text, images):
    term = grammar.parse("benchmarks", text)
    with pytest.raises(UserError, match=term.name):
        term.make(*([images] if term.name != "toy" else []), seed=0)


def test_permutations_are_bijections_differ_by_task_and_seed_and_are_recorded(build):
    a, b = build("permuted-mnist"), build("permuted-mnist", seed=1)
    permutations = [task.permutation for task in (*a.train, *b.train)]
    assert all(torch.equal(p.sort().values, torch.arange(784)) for p in permutations)
    assert len({tuple(p.tolist()) for p in permutations}) == 10
    assert not torch.equal(permutations[0], torch.arange(784))
    assert len(set(a.details["permutations_sha256"])) == 5
    assert all(torch.equal(x.permutation, y.permutation) for x, y in zip(a.train, a.test, strict=True))


def test_all_permuted_tasks_share_one_copy_of_the_images(build, images):
    benchmark = build("permuted-mnist")
    assert {task.images.data_ptr() for task in benchmark.train} == {images.train_x.data_ptr()}


def test_split_tasks_are_the_classes_in_pairs_with_frozen_other_heads(build, images):
    benchmark = build("split-mnist")
    for task, part in enumerate(benchmark.train):
        assert set((images.train_y[part.rows]).tolist()) == {2 * task, 2 * task + 1}
    model = benchmark.model().train()
    for task, experience in enumerate(benchmark.streams().train_stream):
        model.adaptation(experience)
        free = [head[0].weight.requires_grad for head in [[h] for h in model.network.heads]]
        assert free == [k == task for k in range(5)]
        assert all(p.requires_grad for p in model.network.trunk.parameters())


def test_only_the_own_head_learns(train_toy):
    _, model = train_toy([], heads=True, tasks=2)
    _, first_only = train_toy([], heads=True, tasks=2, optimizer=lambda m: torch.optim.SGD(m.parameters(), lr=0.0))
    assert not torch.equal(model.network.heads[0].weight, first_only.network.heads[0].weight)


def test_held_out_images_are_never_trained_on(build, images):
    benchmark = build("permuted-mnist", ",holdout=100,subset=150")
    train, held = benchmark.train[0], benchmark.test[0]
    assert len(train) == 150 and len(held) == 100
    assert held.images is images.train_x
    assert not set(train.rows.tolist()) & set(held.rows.tolist())


def test_a_hundred_permuted_tasks_hold_one_copy_of_everything_but_the_permutations(build):
    many = build("permuted-mnist", ",tasks=100")
    for tasks in (many.train, many.test):
        for name in ("images", "labels", "rows", "targets"):
            assert len({id(getattr(task, name)) for task in tasks}) == 1, name
    assert len({tuple(task.permutation.tolist()) for task in many.train}) == 100


def test_a_network_says_in_its_file_how_it_is_trained(monkeypatch):
    images = data.load("digits")
    from cl_nvrm.models import mlp

    def recipe(benchmark):
        return grammar.parse("benchmarks", f"{benchmark}:subset=100,model=mlp(width=8)").make(images, seed=0).recipe

    plain = recipe("noisy-mnist")
    monkeypatch.setattr(mlp, "RECIPES", {"classification": {"lr": 7.0, "epochs": 3}}, raising=False)
    assert recipe("noisy-mnist") == replace(plain, lr=7.0, epochs=3) and recipe("random-labels").lr != 7.0
    monkeypatch.setattr(mlp, "RECIPES", {"classification": {"learning_rate": 7.0}})
    with pytest.raises(UserError, match="a recipe has epochs"):
        recipe("noisy-mnist")
