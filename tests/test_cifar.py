import hashlib
import os
import pickle
import tarfile
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import torch
from torchvision import datasets

from cl_nvrm import data
from cl_nvrm.data import cifar, digits
from cl_nvrm.data import sources as loading
from cl_nvrm.data.images import RawImages
from cl_nvrm.errors import MissingData

CLASSES = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
SETS = {"cifar10": datasets.CIFAR10, "cifar100": datasets.CIFAR100}


@pytest.fixture(autouse=True)
def forget(monkeypatch, tmp_path):
    """Each test starts with an empty cache folder and nothing remembered in the process."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    loading._cached_load.cache_clear()


@pytest.fixture(params=SETS)
def name(request):
    return request.param


def as_in_2009(value):
    """Pickled in the old protocol, with 0 and 1 for False and True in a dtype: numpy 2.4.0 to 2.4.4 warn of those."""
    return pickle.dumps(value, protocol=2).replace(b"\x89\x88\x87", b"K\x00K\x01\x87")


@pytest.fixture
def write(monkeypatch):
    """Write a small set as torchvision lays it out, with sums that torchvision holds for right; return its numbers."""

    def written(name, root):
        kind = SETS[name]
        folder = root / kind.base_folder
        folder.mkdir(parents=True)
        generator = np.random.default_rng(0)

        def put(file, content):
            (folder / file).write_bytes(content)
            return hashlib.md5(content).hexdigest()

        numbers = {}
        for part in ("train_list", "test_list"):
            files = [file for file, _ in getattr(kind, part)]
            pixels = generator.integers(0, 256, (len(files), 4, 3072), dtype=np.uint8)
            labels = generator.integers(0, 10 if name == "cifar10" else 100, (len(files), 4)).tolist()
            key = "labels" if name == "cifar10" else "fine_labels"
            content = [{"data": x, key: y, "coarse_labels": [0] * 4} for x, y in zip(pixels, labels, strict=True)]
            sums = [put(file, as_in_2009(entry)) for file, entry in zip(files, content, strict=True)]
            monkeypatch.setattr(kind, part, [list(pair) for pair in zip(files, sums, strict=True)])
            numbers[part] = pixels.reshape(-1, 3, 32, 32), [label for four in labels for label in four]
        checksum = put(kind.meta["filename"], as_in_2009({kind.meta["key"]: CLASSES}))
        monkeypatch.setattr(kind, "meta", kind.meta | {"md5": checksum})
        return numbers

    return written


def test_the_folders_are_torchvisions():
    assert {kind.__name__: kind.base_folder for kind in SETS.values()} == cifar.FOLDERS


def test_torchvisions_layout_is_read_in_its_own_order(tmp_path, name, write):
    numbers = write(name, tmp_path)
    raw = cifar.read(SETS[name].__name__, tmp_path / SETS[name].base_folder)
    for x, y, part in ((raw.train_x, raw.train_y, "train_list"), (raw.test_x, raw.test_y, "test_list")):
        assert x.dtype == torch.uint8 and np.array_equal(x.numpy(), numbers[part][0])
        assert y.dtype == torch.int64 and y.tolist() == numbers[part][1]
    images = data.load(name, folder=tmp_path)
    assert images.sha256 == raw.sha256 and images.train_x.shape == (len(raw.train_y), 3, 32, 32)


def test_it_comes_before_class_folders_of_the_same_root(tmp_path, write):
    (tmp_path / "cifar10" / "train").mkdir(parents=True)
    write("cifar10", tmp_path)
    assert len(data.load("cifar10", folder=tmp_path).train_y) == 20


def test_it_is_kept_and_read_anew_when_a_file_changes(tmp_path, name, write, monkeypatch):
    write(name, tmp_path)
    first = data.load(name, folder=tmp_path)
    loading._cached_load.cache_clear()
    with monkeypatch.context() as patch:
        patch.setattr(cifar, "read", lambda *_: pytest.fail("the kept copy was not used"))
        assert data.load(name, folder=tmp_path).sha256 == first.sha256
    loading._cached_load.cache_clear()
    file = tmp_path / SETS[name].base_folder / SETS[name].train_list[-1][0]
    file.write_bytes(file.read_bytes() + b"\0")
    with pytest.raises(MissingData, match=rf"{file} is damaged"):
        data.load(name, folder=tmp_path)


@pytest.mark.parametrize("which", ["train_list", "test_list", "meta"])
@pytest.mark.parametrize(
    ("how", "says"),
    [("missing", "is missing"), ("cut", "is damaged, or not the original"), ("folder", "is missing")],
)
def test_the_first_file_that_is_missing_or_damaged_is_named(tmp_path, name, write, which, how, says):
    write(name, tmp_path)
    folder = tmp_path / SETS[name].base_folder
    file = folder / (SETS[name].meta["filename"] if which == "meta" else getattr(SETS[name], which)[-1][0])
    content = file.read_bytes()
    file.unlink()
    if how == "cut":
        file.write_bytes(content[:-1])
    elif how == "folder":
        file.mkdir()
    with pytest.raises(MissingData, match=rf"{file} {says}.*; copy or download the set again, or remove {folder}$"):
        data.load("auto", preferred=name, folder=tmp_path)  # auto does not paper over a damaged set, either


def test_a_folder_without_files_is_no_set(tmp_path):
    (tmp_path / "cifar-10-batches-py").mkdir()
    with pytest.raises(MissingData, match=r"cifar-10-batches-py/data_batch_1 is missing"):
        data.load("cifar10", folder=tmp_path)


def test_a_file_that_cannot_be_opened_is_named(tmp_path, write, monkeypatch):
    write("cifar10", tmp_path)

    def refused(path, *_):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr("torchvision.datasets.cifar.check_integrity", refused)
    monkeypatch.setattr("torchvision.datasets.utils.check_integrity", refused)
    with pytest.raises(MissingData, match=r"data_batch_1 cannot be read \(.*Permission denied"):
        data.load("cifar10", folder=tmp_path)


def test_whatever_else_torchvision_says_is_passed_on_with_the_folder(tmp_path, write, monkeypatch):
    write("cifar10", tmp_path)
    monkeypatch.setattr(datasets.CIFAR10, "meta", datasets.CIFAR10.meta | {"key": "no such key"})
    with pytest.raises(MissingData, match=r"cifar-10-batches-py cannot be read \(KeyError: 'no such key'\)"):
        data.load("cifar10", folder=tmp_path)


def test_a_set_that_is_nowhere_is_missing_and_nothing_else_takes_its_place(tmp_path, name, monkeypatch):
    monkeypatch.setattr(loading, "_download", lambda _: "no network")
    with pytest.raises(MissingData, match=rf"No data set '{name}' under {tmp_path}, .*downloaded \(no network\)"):
        data.load(name, folder=tmp_path)


def few():
    x = torch.zeros(20, 1, 28, 28, dtype=torch.uint8)
    return RawImages(x, torch.arange(20) % 10, x.clone(), torch.arange(20) % 10)


def test_auto_falls_back_to_the_embedded_digits_with_a_warning(monkeypatch, name):
    monkeypatch.setattr(digits, "make", few)
    heard = []
    assert data.load("auto", preferred=name, warn=heard.append).name == "digits"
    assert len(heard) == 1 and f"{name} is not on disk and could not be downloaded" in heard[0]
    assert [p.name for p in loading.cache_folder().iterdir()] == ["decoded"]


@pytest.fixture
def mirror(monkeypatch, tmp_path, name, write):
    """Serve an archive of a small set on this machine; torchvision downloads it by its own code, sums included."""
    write(name, tmp_path / "packed")
    kind = SETS[name]
    served = tmp_path / "served"
    served.mkdir()
    with tarfile.open(served / kind.filename, "w:gz") as archive:
        archive.add(tmp_path / "packed" / kind.base_folder, kind.base_folder)

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(served))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setattr(kind, "url", f"http://127.0.0.1:{server.server_port}/{kind.filename}")
        monkeypatch.setattr(kind, "tgz_md5", hashlib.md5((served / kind.filename).read_bytes()).hexdigest())
        yield served / kind.filename
        server.shutdown()


def test_auto_downloads_into_the_cache_and_finds_it_there_next_time(name, mirror):
    heard = []
    images = data.load("auto", preferred=name, warn=heard.append)
    assert images.name == name and heard == []
    assert sorted(p.name for p in loading.cache_folder().iterdir()) == [SETS[name].base_folder, "decoded"]
    loading._cached_load.cache_clear()
    assert data.load(name).sha256 == images.sha256


@pytest.mark.parametrize("broken", ["nothing there", "cut short", "one file of the archive is another"])
def test_a_download_that_fails_half_way_leaves_nothing(name, mirror, monkeypatch, broken):
    monkeypatch.setattr(digits, "make", few)
    if broken == "nothing there":
        mirror.unlink()
    elif broken == "cut short":
        mirror.write_bytes(mirror.read_bytes()[:-10])
    else:
        monkeypatch.setattr(SETS[name], "test_list", [[SETS[name].test_list[0][0], "0" * 32]])
    heard = []
    assert data.load("auto", preferred=name, warn=heard.append).name == "digits" and len(heard) == 1
    assert [p.name for p in loading.cache_folder().iterdir()] == ["decoded"]


@pytest.mark.data
def test_real_cifar10_from_archives_of_class_folders():
    root = Path(os.environ.get("CL_NVRM_DATA", "/nonexistent"))
    if not list((root / "cifar10").glob("*.zip")):
        pytest.skip("set CL_NVRM_DATA to a folder with cifar10/*.zip")
    images = loading._cached_load("cifar10", root)
    assert images.train_x.shape == (50_000, 3, 32, 32) and images.test_x.shape == (10_000, 3, 32, 32)
    assert torch.bincount(images.train_y).tolist() == [5000] * 10
    assert torch.bincount(images.test_y).tolist() == [1000] * 10
    assert images.train_x.mean((0, 2, 3)).tolist() == pytest.approx([0, 0, 0], abs=1e-3)
    # the agreed deviations are means over the images of each one's own
    assert images.train_x.flatten(2).std(2).mean(0).tolist() == pytest.approx([1, 1, 1], abs=1e-3)
    assert images.train_x.amin((0, 2, 3)).tolist() == images.black.flatten().tolist()
    # the classes are in CIFAR-10's own order: what has most blue are airplanes and ships
    blue = torch.stack([images.train_x[images.train_y == c, 2].mean() for c in range(10)])
    assert {CLASSES[c] for c in blue.topk(2).indices.tolist()} == {"airplane", "ship"}
