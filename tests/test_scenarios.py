"""The three scenarios, and the options that published settings need."""

import pytest
import torch
from PIL import Image

from cl_nvrm.benchmark import Recipe, TaskData
from cl_nvrm.continual.growing import Growing
from cl_nvrm.continual.pixels import prepared, turned
from cl_nvrm.continual.scenarios import in_scenario
from cl_nvrm.data.images import Images, RawImages
from cl_nvrm.errors import UserError
from cl_nvrm.models.mlp import MLP
from cl_nvrm.spec import catalog, grammar
from cl_nvrm.training.train import run_one

SPLIT = "split-mnist:width=8,depth=1"


@pytest.fixture(scope="module")
def images():
    generator = torch.Generator().manual_seed(0)
    x = torch.randint(0, 256, (200, 1, 28, 28), generator=generator, dtype=torch.uint8)
    y = torch.arange(200) % 10
    return Images.standardised("mnist", RawImages(x, y, x[:100].clone(), y[:100]))


def build(images, text, seed=0):
    return grammar.parse("benchmarks", text).make(images, seed=seed)


def two_tasks(scenario, **options):
    parts = [TaskData(torch.randn(6, 3), torch.tensor([0, 1, 0, 1, 0, 1])) for _ in range(2)]
    return in_scenario(
        scenario,
        parts,
        parts,
        lambda classes, heads: MLP(3, classes, width=4, heads=heads),
        classes=2,
        about="made up",
        recipe=Recipe(),
        **options,
    )


@pytest.mark.parametrize(
    ("scenario", "labels", "tasks", "heads", "chance"),
    [
        ("task", [{0, 1}, {0, 1}], [0, 1], 2, 0.5),
        ("domain", [{0, 1}, {0, 1}], [0, 0], 1, 0.5),
        ("class", [{0, 1}, {2, 3}], [0, 0], 1, 0.25),
    ],
)
def test_labels_heads_and_chance_of_a_scenario(scenario, labels, tasks, heads, chance):
    made = two_tasks(scenario)
    assert [set(part.targets) for part in made.train] == labels == [set(part.targets) for part in made.test]
    assert [part.task for part in made.train] == tasks and (made.heads, made.chance) == (heads, chance)
    grows = ", a head that grows" if scenario == "class" else ""
    assert made.scenario == f"{scenario}-incremental, made up{grows}"


def test_outputs_of_classes_to_come_are_not_there_and_have_no_gradient():
    made = two_tasks("class")
    model = made.model().train()
    x = torch.randn(5, 3)
    assert isinstance(model, Growing) and model(x).shape == (5, 4)  # before the first task
    for experience, seen in zip(made.streams().train_stream, (2, 4), strict=True):
        model.adaptation(experience)
        logits = model(x)
        assert torch.equal(logits, model.network(x)[:, :seen])
        model.zero_grad()
        torch.nn.functional.cross_entropy(logits, torch.zeros(5, dtype=torch.long)).backward()
        rows = model.network.heads[0].weight.grad.abs().sum(1) > 0
        assert rows.tolist() == [k < seen for k in range(4)]
    model.eval().adaptation(made.streams().train_stream[0])
    assert model(x).shape == (5, 4), "classes are not forgotten"
    other = made.model()
    other.load_state_dict(model.state_dict())
    assert torch.equal(other(x), model(x))


def test_all_outputs_take_part_from_the_start_if_asked():
    made = two_tasks("class", outputs="all")
    model = made.model().train()
    assert isinstance(model, MLP) and model(torch.randn(5, 3)).shape == (5, 4)


@pytest.mark.parametrize("name", ["split-mnist", "permuted-mnist", "rotated-mnist"])
@pytest.mark.parametrize("scenario", ["task", "domain", "class"])
def test_the_mnist_benchmarks_come_in_every_scenario(name, scenario, images):
    made = build(images, f"{name}:width=4,tasks=2,scenario={scenario}")
    per_task = 5 if name == "split-mnist" else 10
    labels = [set(part.targets) for part in made.train]
    if scenario == "class":
        assert labels == [set(range(per_task)), set(range(per_task, 2 * per_task))]
    else:
        assert labels == [set(range(per_task))] * 2
    assert made.heads == (2 if scenario == "task" else 1)
    assert made.chance == 1 / (2 * per_task if scenario == "class" else per_task)


def test_split_digits_come_in_the_order_of_a_seed_if_asked(images):
    made = [build(images, f"{SPLIT},scenario=class,order=seed", seed) for seed in (0, 0, 1)]
    classes = made[0].details["classes"]
    assert sorted(classes) == list(range(10)) and classes != list(range(10))
    assert made[1].details == made[0].details != made[2].details
    for task, part in enumerate(made[0].train):
        digits = images.train_y[part.rows]
        assert set(digits.tolist()) == set(classes[2 * task : 2 * task + 2])
        assert [classes[label] for label in part.targets] == digits.tolist()


def test_the_first_permutation_may_be_none(images):
    made = build(images, "permuted-mnist:width=4,tasks=2,first=plain")
    usual = build(images, "permuted-mnist:width=4,tasks=2")
    x = made.train[0].gather(torch.arange(5))[0]
    assert torch.equal(x, images.train_x[made.train[0].rows[:5]])
    assert torch.equal(made.train[1].permutation, usual.train[1].permutation)


def test_a_padded_image_has_a_black_frame_and_is_standardised_with_it(images):
    raw = torch.randint(0, 256, (50, 1, 28, 28), dtype=torch.uint8)
    small = Images.standardised("theirs", RawImages(raw, torch.arange(50) % 10, raw[:10], torch.arange(10)))
    framed = torch.nn.functional.pad(raw.double() / 255, (2, 2, 2, 2))
    found = prepared(small, 32, "channel")
    expected = (framed - framed.mean()) / framed.std()
    assert torch.allclose(found.train_x.double(), expected, atol=1e-5)
    assert torch.allclose(found.black.double(), expected[0, :, :1, :1], atol=1e-5)
    assert torch.equal(prepared(small, 32, "none").train_x, framed.float())
    assert prepared(small, 0, "channel") is small
    with pytest.raises(ValueError, match="at most 20 x 20"):
        prepared(small, 20, "none")


def test_pixels_without_normalisation_are_those_of_the_files(images):
    raw = torch.arange(256, dtype=torch.uint8).repeat(49).view(16, 1, 28, 28)
    every = Images.standardised("mnist", RawImages(raw, torch.arange(16) % 10, raw, torch.arange(16) % 10))
    assert torch.equal(prepared(every, 0, "none").train_x, raw.float() / 255)


@pytest.mark.parametrize("degrees", [0, 18, 45.5, 90, 137, 179.9])
def test_turned_pixels_are_those_of_an_image_library(degrees):
    pixels = torch.randint(1, 256, (1, 1, 28, 28), generator=torch.Generator().manual_seed(1), dtype=torch.uint8)
    raw = RawImages(pixels, torch.zeros(1, dtype=torch.long), pixels, torch.zeros(1, dtype=torch.long))
    unit = prepared(Images.standardised("one", raw), 0, "none")
    task = TaskData(unit.train_x, unit.train_y).permuted(*turned(unit, degrees))
    ours = task.gather(torch.tensor([0]))[0][0, 0]
    theirs = Image.fromarray(pixels[0, 0].numpy()).rotate(degrees)
    assert (ours * 255 != torch.frombuffer(bytearray(theirs.tobytes()), dtype=torch.uint8).view(28, 28)).sum() <= 2


def test_what_lies_outside_of_a_turned_image_is_black(images):
    made = build(images, "rotated-mnist:width=4,tasks=4")
    assert made.details["angles"] == [0, 45, 90, 135]
    corner = made.train[1].gather(torch.arange(3))[0][:, 0, 0, 0]
    assert torch.equal(corner, images.black.expand(3, 1, 1)[:, 0, 0])
    assert torch.equal(made.train[0].gather(torch.arange(3))[0], images.train_x[made.train[0].rows[:3]])
    assert build(images, "rotated-mnist:width=4,tasks=3,angles=0/45.5/-90").details["angles"] == [0.0, 45.5, -90.0]
    for wrong in ("0/45", "0/45/x", "0/45/nan", "even/1/2", ""):
        with pytest.raises((ValueError, UserError), match="angles"):
            build(images, f"rotated-mnist:width=4,tasks=3,angles={wrong}")
    angles = [build(images, "rotated-mnist:width=4,angles=random,most=90", seed).details["angles"] for seed in (0, 1)]
    assert angles[0] != angles[1] and all(0 <= angle < 90 for angle in angles[0] + angles[1])


def test_what_came_later_is_left_out_of_the_text_at_its_default():
    text = str(grammar.parse("benchmarks", "split-mnist"))
    assert "scenario" not in text and text == str(grammar.parse("benchmarks", "split-mnist:scenario=task,pad=0"))
    other = str(grammar.parse("benchmarks", "split-mnist:scenario=class"))
    assert other == f"{text},scenario=class" and grammar.parse("benchmarks", other).settings["scenario"] == "class"


@pytest.mark.parametrize("strategy", [n for n in catalog.names("strategies") if n != "early-stopping"])
def test_every_strategy_trains_while_outputs_grow(strategy, monkeypatch, tmp_path):
    """Or is refused while planning; the other scenarios are those of ``test_strategies``."""
    from cl_nvrm.run import main

    monkeypatch.chdir(tmp_path)
    words = "--benchmark toy:tasks=3,samples=64,scenario=class --epochs 1 --jobs 1 --no-plots --quiet"
    assert main([*words.split(), "--strategy", strategy]) in (0, 2)


def test_class_incremental_learning_forgets_what_task_incremental_learning_keeps(toy_spec):
    """With the same points, and chance as low as the number of classes says."""
    rows = {}
    for scenario in ("task", "class"):
        spec = toy_spec("naive", benchmark=f"toy:tasks=3,scenario={scenario}", epochs=5)
        rows[scenario] = run_one(spec, threads=1).accuracy
    assert rows["class"][-1][0] < 0.1 and rows["class"][0][1] == 0 and rows["task"][-1][0] > 0.5
    assert rows["class"][0][0] > 0.9


@pytest.mark.parametrize("strategy", ["naive", "ewc+nvrm", "replay", "nsr"])
def test_a_task_takes_the_iterations_asked_for(strategy, toy_spec):
    """Also where a plug-in exchanges the loader; the last epoch ends early."""
    result = run_one(toy_spec(strategy, benchmark="toy:tasks=2", epochs=0, iterations=23), threads=1)
    assert result.status == "done" and result.provenance["gradient_passes"] == 46


def test_iterations_of_whole_epochs_are_these_epochs(toy_bits):
    assert toy_bits("si", epochs=0, iterations=32) == toy_bits("si", epochs=2)  # 16 batches of 32
    assert toy_bits("si", epochs=0, iterations=31) != toy_bits("si", epochs=2)


def test_epochs_and_iterations_exclude_each_other(cli):
    code, _, err = cli("--benchmark", "toy", "--epochs", 1, "--iterations", 5)
    assert code == 2 and "write one of them" in err
