import gzip
import hashlib
import io
import os
import socket
import struct
import subprocess
import sys
import threading
import zipfile
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import transforms
from torchvision.datasets import MNIST

from cl_nvrm import data
from cl_nvrm.data import digits, folders, idx
from cl_nvrm.data import sources as loading
from cl_nvrm.data.images import Images, RawImages
from cl_nvrm.errors import MissingData


@pytest.fixture(autouse=True)
def forget(monkeypatch, tmp_path):
    """Each test starts with an empty cache folder and nothing remembered in the process."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    loading._cached_load.cache_clear()


def pixels(count, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (count, 28, 28), dtype=np.uint8)


def encoded(array):
    return struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape) + array.tobytes()


def write_idx(folder, *, zipped=True, train=50, test=20):
    folder.mkdir(parents=True)
    parts = {
        "train_x": pixels(train),
        "train_y": (np.arange(train) % 10).astype(np.uint8),
        "test_x": pixels(test, 1),
        "test_y": (np.arange(test) % 10).astype(np.uint8),
    }
    for part, name in idx.FILES.items():
        if zipped:
            (folder / f"{name}.gz").write_bytes(gzip.compress(encoded(parts[part])))
        else:
            (folder / name).write_bytes(encoded(parts[part]))
    return parts


@pytest.mark.parametrize("place", ["mnist", "MNIST/raw"])
@pytest.mark.parametrize("zipped", [True, False])
def test_idx_files_are_found_in_either_layout(tmp_path, place, zipped):
    parts = write_idx(tmp_path / place, zipped=zipped)
    images = data.load("mnist", folder=tmp_path)
    assert images.train_x.shape == (50, 1, 28, 28) and images.classes == 10
    assert images.test_y.tolist() == parts["test_y"].tolist()
    assert images.sha256 == data.load("MNIST", folder=tmp_path).sha256


def test_pixels_are_those_of_totensor_and_normalize_bit_for_bit(tmp_path):
    write_idx(tmp_path / "MNIST" / "raw", zipped=False)
    theirs = MNIST(
        str(tmp_path), transform=transforms.Compose([transforms.ToTensor(), transforms.Normalize((0.1307,), (0.3081,))])
    )
    ours = data.load("mnist", folder=tmp_path)
    for i in range(50):
        assert torch.equal(ours.train_x[i], theirs[i][0]) and int(ours.train_y[i]) == theirs[i][1]


def test_other_sets_are_standardised_by_their_training_pixels(tmp_path):
    write_idx(tmp_path / "mine")
    images = data.load("mine", folder=tmp_path)
    assert float(images.train_x.mean()) == pytest.approx(0, abs=1e-5)
    assert float(images.train_x.std()) == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize("channels", [1, 3])
def test_standardising_equals_the_textbook_in_float64_and_black_is_what_a_pixel_of_0_becomes(channels):
    raw = in_colour(300, channels)
    images = Images.standardised("mine", raw)
    values = raw.train_x.transpose(0, 1).flatten(1).double() / 255
    mean, std = (moment.float().view(-1, 1, 1) for moment in (values.mean(1), values.std(1)))
    assert torch.equal(images.train_x, (raw.train_x.float() / 255 - mean) / std)
    assert images.black.shape == (channels, 1, 1)
    dark = raw.train_x == 0
    assert torch.equal(images.train_x[dark], images.black.expand(raw.train_x.shape)[dark]) and dark.any()


def in_colour(count, channels=3, size=32):
    generator = torch.Generator().manual_seed(count)
    x = torch.randint(0, 256, (count, channels, size, size), generator=generator, dtype=torch.uint8)
    y = torch.arange(count) % 10
    return RawImages(x, y, x[: count // 2].clone(), y[: count // 2])


def test_agreed_constants_are_for_the_channels_they_were_agreed_for():
    agreed = Images.standardised("cifar10", in_colour(10))
    assert agreed.black.flatten().tolist() == pytest.approx([-0.4914 / 0.2023, -0.4822 / 0.1994, -0.4465 / 0.2010])
    grey = Images.standardised("cifar10", in_colour(10, channels=1))
    assert grey.train_x.shape == (10, 1, 32, 32)
    assert float(grey.train_x.mean()) == pytest.approx(0, abs=1e-5)


@pytest.mark.skipif(not Path("/proc/self/status").is_file(), reason="needs Linux's account of a process's memory")
@pytest.mark.slow
def test_standardising_needs_little_more_memory_than_its_result():
    script = """
import torch
from cl_nvrm.data.images import Images, RawImages

def most():
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM"))

x, y = torch.zeros(20_000, 3, 32, 32, dtype=torch.uint8), torch.zeros(20_000, dtype=torch.int64)
raw = RawImages(x, y, x[:4000].clone(), y[:4000])
before = most()
images = Images.standardised("mine", raw)
print((most() - before) * 1024 / (4 * (images.train_x.numel() + images.test_x.numel())))
"""
    out = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert float(out.stdout) < 1.4


@pytest.mark.parametrize(("channels", "size"), [(1, 28), (1, 32), (3, 28), (1, 31)])
def test_coloured_repeats_grey_and_frames_what_is_smaller_in_black(channels, size):
    images = Images.standardised("mine", in_colour(10, channels, size))
    coloured = images.coloured()
    assert coloured.train_x.shape == (10, 3, 32, 32) and coloured.test_x.shape == (5, 3, 32, 32)
    assert coloured.black.shape == (3, 1, 1) and coloured.sha256 == images.sha256
    start = (32 - size) // 2
    inside = torch.zeros(32, 32, dtype=torch.bool)
    inside[start : start + size, start : start + size] = True
    for ours, small in ((coloured.train_x, images.train_x), (coloured.test_x, images.test_x)):
        assert torch.equal(ours[..., inside], small.flatten(2).expand(-1, 3, -1))
        assert torch.equal(ours[..., ~inside], coloured.black.view(3, 1).expand(len(ours), 3, int((~inside).sum())))


def test_coloured_returns_what_is_right_already_and_refuses_what_it_would_have_to_shrink_or_guess():
    right = Images.standardised("mine", in_colour(10))
    assert right.coloured() is right
    with pytest.raises(ValueError, match="3 x 32 x 32 cannot become 3 x 28 x 28"):
        right.coloured(28)
    with pytest.raises(ValueError, match="1 or 3 channels"):
        Images.standardised("mine", in_colour(10, channels=2)).coloured()


def test_all_of_a_set_moves_to_a_device():
    moved = Images.standardised("mine", in_colour(10)).to("meta")
    assert {x.device.type for x in vars(moved).values() if isinstance(x, torch.Tensor)} == {"meta"}


def png(array):
    file = io.BytesIO()
    Image.fromarray(array).save(file, "PNG")
    return file.getvalue()


def write_folders(folder, *, archive=False, bad=None, colour=False):
    files = {}
    for split, count in (("train", 6), ("test", 4)):
        for i, image in enumerate(pixels(count)):
            array = np.stack([image] * 3, -1) if colour else image
            files[f"{split}/{'cat' if i % 2 else 'dog'}/{i:03}.png"] = png(array)
    files |= bad or {}
    folder.mkdir(parents=True)
    if archive:
        with (
            zipfile.ZipFile(folder / "train.zip", "w") as train,
            zipfile.ZipFile(folder / "test.zip", "w") as test,
        ):
            for name, content in files.items():
                (train if name.startswith("train") else test).writestr(f"set/{name}", content)
    else:
        for name, content in files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(content)


@pytest.mark.parametrize("colour", [False, True])
def test_class_folders_and_zip_archives_of_them_are_the_same_set(tmp_path, colour):
    write_folders(tmp_path / "plain", colour=colour)
    write_folders(tmp_path / "zipped", archive=True, colour=colour)
    plain, zipped = (data.load(name, folder=tmp_path) for name in ("plain", "zipped"))
    assert plain.train_x.shape == (6, 3 if colour else 1, 28, 28)
    assert plain.train_y.tolist() == [0, 0, 0, 1, 1, 1]  # cat before dog
    assert plain.sha256 == zipped.sha256


def test_decoded_folders_are_kept_and_made_anew_when_a_file_changes_or_the_copy_is_damaged(tmp_path):
    write_folders(tmp_path / "pets")
    first = data.load("pets", folder=tmp_path)
    (copy,) = (tmp_path / "cache").rglob("*.safetensors")
    copy.write_bytes(copy.read_bytes()[:-100] + bytes(100))
    loading._cached_load.cache_clear()
    assert data.load("pets", folder=tmp_path).sha256 == first.sha256
    (tmp_path / "pets/train/dog/000.png").write_bytes(png(pixels(9)[8]))
    loading._cached_load.cache_clear()
    assert data.load("pets", folder=tmp_path).sha256 != first.sha256


def broken_png():
    """A PNG whose pixels seem to end early, so that the next chunk has no proper name: Pillow's SyntaxError."""
    content = bytearray(png(pixels(1)[0]))
    content[content.index(b"IDAT") - 2] = 0  # of its length
    return bytes(content)


@pytest.mark.parametrize("archive", [False, True])
@pytest.mark.parametrize(
    ("bad", "says"),
    [
        ({"train/cat/001.png": b"not an image"}, r"train/cat/001.png is not an image"),
        ({"train/cat/001.png": png(pixels(1)[0])[:200]}, r"train/cat/001.png is not an image"),
        ({"train/cat/001.png": broken_png()}, r"train/cat/001.png is not an image"),
        ({"train/cat/009.png": png(np.zeros((5, 5), np.uint8))}, r"train/cat/009.png is \(5, 5\), the images before"),
    ],
)
def test_a_bad_image_is_named(tmp_path, bad, says, archive):
    write_folders(tmp_path / "pets", bad=bad, archive=archive)
    with pytest.raises(MissingData, match=(r"pets/train\.zip:set/" if archive else "pets/") + says):
        data.load("pets", folder=tmp_path)


def test_a_damaged_image_of_an_archive_is_named(tmp_path):
    write_folders(tmp_path / "pets", archive=True)
    archive = tmp_path / "pets" / "train.zip"
    content = bytearray(archive.read_bytes())
    start = content.index(b"set/train/dog/002.png") + 100
    content[start : start + 50] = bytes(50)
    archive.write_bytes(content)
    with pytest.raises(MissingData, match=r"train\.zip:set/train/dog/002\.png cannot be read"):
        data.load("pets", folder=tmp_path)


def test_an_image_file_that_cannot_be_opened_is_named(tmp_path, monkeypatch):
    write_folders(tmp_path / "pets")
    read = Path.read_bytes

    def refused(path):
        if path.name == "003.png":
            raise PermissionError(13, "Permission denied", str(path))
        return read(path)

    monkeypatch.setattr(Path, "read_bytes", refused)
    with pytest.raises(MissingData, match=r"/cat/003\.png cannot be read \(.*Permission denied"):
        data.load("pets", folder=tmp_path)


def test_images_unpacked_beside_their_archive_do_not_count_twice(tmp_path):
    write_folders(tmp_path / "pets", archive=True)
    for archive in (tmp_path / "pets").glob("*.zip"):
        zipfile.ZipFile(archive).extractall(tmp_path / "pets")
    with pytest.raises(MissingData, match=r"are the same image; remove all that is there twice"):
        data.load("pets", folder=tmp_path)


def test_a_change_is_noticed_whatever_the_case_of_a_files_suffix(tmp_path):
    write_folders(tmp_path / "pets")
    for file in (tmp_path / "pets").rglob("*.png"):
        file.rename(file.with_suffix(".PNG"))
    first = data.load("pets", folder=tmp_path)
    (tmp_path / "pets/train/dog/000.PNG").write_bytes(png(pixels(9)[8]))
    loading._cached_load.cache_clear()
    assert data.load("pets", folder=tmp_path).sha256 != first.sha256


@pytest.mark.parametrize("archive", [False, True])
def test_hidden_files_and_rubbish_are_passed_over(tmp_path, archive):
    image = png(pixels(1)[0])
    rubbish = {
        "train/.ipynb_checkpoints/000.png": image,
        "train/.DS_Store": b"",
        "train/cat/._001.png": b"not an image",
        "train/cat/Thumbs.db": b"",
        "train/__MACOSX/cat/001.png": b"not an image",
        ".trash/train/cow/000.png": image,
    }
    write_folders(tmp_path / "pets", archive=archive)
    write_folders(tmp_path / "untidy", archive=archive, bad=rubbish)
    heard = []
    assert data.load("untidy", folder=tmp_path, warn=heard.append).sha256 == data.load("pets", folder=tmp_path).sha256
    assert heard == []


def test_what_is_left_out_is_said_with_its_count_now_and_from_the_kept_copy(tmp_path):
    image = png(pixels(1)[0])
    more = {
        "old/train/cow/000.png": image,
        "old/train/cow/001.png": image,
        "train/000.png": image,
        "train/cat/notes.txt": b"hello",
        "labels.csv": b"1",
    }
    write_folders(tmp_path / "pets")
    write_folders(tmp_path / "more", bad=more)
    for _ in range(2):
        heard = []
        images = data.load("more", folder=tmp_path, warn=heard.append)
        assert images.sha256 == data.load("pets", folder=tmp_path).sha256
        (line,) = heard
        for text in ("3 outside of train/ and test/", "1 in train/ itself", "1 .txt, not taken"):
            assert text in line
        loading._cached_load.cache_clear()
    assert images.notes == (line,)


def test_deeper_folders_belong_to_their_class_and_links_are_followed(tmp_path):
    write_folders(tmp_path / "pets")
    write_folders(tmp_path / "deep")
    cats = tmp_path / "deep/train/cat"
    (cats / "black").mkdir()
    for file in sorted(cats.glob("*.png"))[1:]:
        file.rename(cats / "black" / file.name)
    (tmp_path / "deep/train/dog").rename(tmp_path / "dogs")
    (tmp_path / "deep/train/dog").symlink_to(tmp_path / "dogs")
    (tmp_path / "deep/train/cat/up").symlink_to(tmp_path / "deep")  # a loop
    assert data.load("deep", folder=tmp_path).sha256 == data.load("pets", folder=tmp_path).sha256
    loading._cached_load.cache_clear()
    (cats / "gone.png").symlink_to(tmp_path / "nowhere")
    with pytest.raises(MissingData, match=r"train/cat/gone\.png cannot be read"):
        data.load("deep", folder=tmp_path)


def encoded_as(form, mode, array):
    file = io.BytesIO()
    Image.fromarray(array).convert(mode).save(file, form)
    return file.getvalue()


def sixteen_bits(array):
    file = io.BytesIO()
    Image.fromarray(array.astype(np.uint16) * 257).save(file, "PNG")
    return file.getvalue()


def palette_with_a_hole(array):
    """A palette image whose brightest colour is transparent."""
    image = Image.fromarray(array).convert("P")
    file = io.BytesIO()
    image.save(file, "PNG", transparency=255)
    return file.getvalue()


def test_every_kind_of_pixels_comes_out_as_a_person_sees_it(tmp_path):
    grey = np.minimum(pixels(1)[0], 254)  # 255 is the hole
    grey[0, 0] = 255
    veil = np.dstack([grey, np.where(grey < 128, 0, 255).astype(np.uint8)])
    kinds = {
        "a16": (sixteen_bits(grey), grey),
        "b1": (encoded_as("PNG", "1", (grey > 99).astype(np.uint8) * 255), (grey > 99) * 255),
        "c_bmp": (encoded_as("BMP", "L", grey), grey),
        "d_tiff": (encoded_as("TIFF", "L", grey), grey),
        "e_la": (encoded_as("PNG", "LA", veil), np.where(grey < 128, 255, grey)),
        "f_hole": (palette_with_a_hole(grey), grey),
    }
    folder = tmp_path / "kinds"
    for split in ("train", "test"):
        for name, (content, _) in kinds.items():
            (folder / split / name).mkdir(parents=True)
            suffix = name.partition("_")[2]
            (folder / split / name / f"0.{suffix if suffix in ('bmp', 'tiff') else 'png'}").write_bytes(content)
    heard = []
    raw = folders.read(folder)
    assert data.load("kinds", folder=tmp_path, warn=heard.append).classes == len(kinds)
    assert raw.train_x.shape == (len(kinds), 3, 28, 28)  # the palette is one of colours
    for image, (_, expected) in zip(raw.train_x, kinds.values(), strict=True):
        assert all(np.array_equal(channel.numpy(), expected) for channel in image)
    said = " ".join(heard)
    for text in ("16-bit greys were scaled to 8 bits (2 images)", "laid on white (4 images)", "three channels (10"):
        assert text in said


def test_pixels_that_nobody_can_scale_are_refused(tmp_path):
    file = io.BytesIO()
    Image.fromarray(np.full((28, 28), 0.5, np.float32)).save(file, "TIFF")
    write_folders(tmp_path / "pets", bad={"train/cat/009.tif": file.getvalue()})
    with pytest.raises(MissingData, match=r"009\.tif has floating-point pixels"):
        data.load("pets", folder=tmp_path)


@pytest.mark.parametrize("where", ["train/cow", "test/cow"])
@pytest.mark.parametrize("empty", [True, False])
def test_a_class_without_images_in_a_split_is_refused(tmp_path, where, empty):
    write_folders(tmp_path / "pets")
    (tmp_path / "pets" / where).mkdir()
    if not empty:
        (tmp_path / "pets" / where / "0.png").write_bytes(png(pixels(1)[0]))
    with pytest.raises(MissingData, match=r"class 'cow' has no images under (train|test)/"):
        data.load("pets", folder=tmp_path)


@pytest.mark.parametrize("name", ["shapes", "splits"])
def test_another_layout_is_told_what_is_wanted(tmp_path, name):
    for place in ("circle", "square") if name == "shapes" else ("training/circle", "training/square"):
        (tmp_path / name / place).mkdir(parents=True)
        (tmp_path / name / place / "0.png").write_bytes(png(pixels(1)[0]))
    with pytest.raises(
        MissingData, match=r"no images under train/.*write \{train,test\}/<class>/<image>.*2 outside of"
    ):
        data.load(name, folder=tmp_path)


def test_two_sets_in_one_folder_are_not_joined(tmp_path):
    write_folders(tmp_path / "both/old")
    write_folders(tmp_path / "both/new")
    with pytest.raises(MissingData, match=r"both holds several sets \(new, old\)"):
        data.load("both", folder=tmp_path)


def test_a_set_unpacked_with_its_own_folder_on_top_is_found(tmp_path):
    write_folders(tmp_path / "pets")
    write_folders(tmp_path / "unpacked/pets-v2")
    assert data.load("unpacked", folder=tmp_path).sha256 == data.load("pets", folder=tmp_path).sha256


@pytest.mark.parametrize("written", ["My_Data", "my_data", "my-data", "MY-DATA"])
def test_a_folder_is_found_however_its_name_is_written(tmp_path, written):
    write_folders(tmp_path / "My_Data")
    assert data.load(written, folder=tmp_path).name == "My_Data"


@pytest.mark.parametrize("written", ["../pets", "x" * 5000, "a/b", "\0", "."])
def test_what_cannot_be_a_folders_name_is_no_data_set(tmp_path, written):
    write_folders(tmp_path / "pets")
    (tmp_path / "here").mkdir()
    with pytest.raises(MissingData, match="No data set") as problem:
        data.load(written, folder=tmp_path / "here")
    assert len(str(problem.value)) < 1000


def test_an_archive_that_is_none_is_named(tmp_path):
    (tmp_path / "pets").mkdir()
    (tmp_path / "pets" / "a.zip").write_bytes(b"PK nonsense")
    with pytest.raises(MissingData, match=r"a\.zip cannot be read"):
        data.load("pets", folder=tmp_path)


def test_a_set_without_test_images_is_refused(tmp_path):
    write_folders(tmp_path / "pets")
    for file in (tmp_path / "pets" / "test").rglob("*.png"):
        file.unlink()
    with pytest.raises(MissingData, match="no images under test/"):
        data.load("pets", folder=tmp_path)


def damage(folder, how):
    images = folder / "train-images-idx3-ubyte.gz"
    labels = folder / "train-labels-idx1-ubyte.gz"
    if how == "missing":
        images.unlink()
    elif how == "cut gzip":
        images.write_bytes(images.read_bytes()[:500])
    elif how == "no gzip":
        images.write_bytes(b"hello")
    elif how == "cut idx":
        images.write_bytes(gzip.compress(gzip.decompress(images.read_bytes())[:-1]))
    elif how == "labels for images":
        images.write_bytes(labels.read_bytes())
    elif how == "empty":
        images.write_bytes(gzip.compress(b""))
    elif how == "counts":
        labels.write_bytes(gzip.compress(encoded(np.zeros(7, np.uint8))))
    elif how == "test size":
        (folder / "t10k-images-idx3-ubyte.gz").write_bytes(gzip.compress(encoded(pixels(20)[:, :5, :5])))
    elif how == "no test 3":
        tested = np.where(np.arange(20) % 10 == 3, 4, np.arange(20) % 10).astype(np.uint8)
        (folder / "t10k-labels-idx1-ubyte.gz").write_bytes(gzip.compress(encoded(tested)))


@pytest.mark.parametrize(
    ("how", "says"),
    [
        ("missing", "train-images-idx3-ubyte.* is missing beside the other files"),
        ("cut gzip", "train-images-idx3-ubyte.gz cannot be read"),
        ("no gzip", "train-images-idx3-ubyte.gz cannot be read"),
        ("cut idx", "train-images-idx3-ubyte.gz is cut short"),
        ("labels for images", "is not an IDX file of 3-dimensional bytes"),
        ("empty", "is not an IDX file"),
        ("counts", "50 train images but 7 labels"),
        ("test size", "training images are 28 x 28, test images 5 x 5"),
        ("no test 3", "class 3 has no test images"),
    ],
)
def test_damaged_idx_files_are_named(tmp_path, how, says):
    write_idx(tmp_path / "mnist")
    damage(tmp_path / "mnist", how)
    with pytest.raises(MissingData, match=says):
        data.load("auto", folder=tmp_path)  # auto does not paper over a damaged set, either


def test_a_set_that_is_nowhere_says_where_it_was_looked_for(tmp_path):
    with pytest.raises(MissingData, match=rf"No data set 'mnist' under {tmp_path}/x, .*--data digits"):
        data.load("mnist", folder=tmp_path / "x")


def test_the_folder_given_comes_before_the_variable_and_the_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("CL_NVRM_DATA", str(tmp_path / "b"))
    assert loading.roots(tmp_path / "a") == [tmp_path / "a", tmp_path / "b", loading.cache_folder()]
    write_idx(tmp_path / "b" / "mnist", train=30)
    assert len(data.load("mnist", folder=tmp_path / "a").train_y) == 30


def test_auto_falls_back_to_the_embedded_digits_with_a_warning(tmp_path, monkeypatch):
    monkeypatch.setattr(digits, "make", lambda: small())
    heard = []
    images = data.load("auto", warn=heard.append)
    assert images.name == "digits" and len(heard) == 1
    assert "could not be downloaded" in heard[0] and "digits" in heard[0]
    assert not list((tmp_path / "cache").rglob("*ubyte*"))  # nothing half-downloaded is left


def small():
    x = torch.from_numpy(pixels(20))[:, None]
    return RawImages(x, torch.arange(20) % 10, x.clone(), torch.arange(20) % 10)


@pytest.fixture
def mirror(monkeypatch, tmp_path):
    """A mirror on this machine that torchvision downloads from, by its own code, checksums included."""

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(tmp_path / "served"))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setattr(MNIST, "mirrors", [f"http://127.0.0.1:{server.server_port}/"])
        yield
        server.shutdown()


def prepared_download(tmp_path):
    write_idx(tmp_path / "served")
    names = [f"{name}.gz" for name in idx.FILES.values()]
    return [(n, hashlib.md5((tmp_path / "served" / n).read_bytes()).hexdigest()) for n in names]


@pytest.mark.parametrize("choice", ["auto", "mnist", "MNIST"])
def test_it_is_downloaded_into_the_cache_and_found_there_next_time(tmp_path, monkeypatch, mirror, choice):
    monkeypatch.setattr(MNIST, "resources", prepared_download(tmp_path))
    heard = []
    assert data.load(choice, warn=heard.append).name == "mnist" and heard == []
    assert sorted(p.name for p in loading.cache_folder().iterdir()) == ["MNIST"]
    loading._cached_load.cache_clear()
    assert len(data.load("mnist").train_y) == 50


@pytest.mark.parametrize("broken", ["one file missing", "wrong checksum"])
def test_a_download_that_fails_half_way_leaves_nothing(tmp_path, monkeypatch, mirror, broken):
    resources = prepared_download(tmp_path)
    if broken == "wrong checksum":
        resources[3] = (resources[3][0], "0" * 32)
    else:
        (tmp_path / "served" / resources[3][0]).unlink()
    monkeypatch.setattr(MNIST, "resources", resources)
    monkeypatch.setattr(digits, "make", small)
    with pytest.raises(MissingData, match=r"No data set 'mnist' under .*, and none could be downloaded"):
        data.load("mnist")
    assert list(loading.cache_folder().iterdir()) == []
    assert data.load("auto").name == "digits"
    assert [p.name for p in loading.cache_folder().iterdir()] == ["decoded"]


def test_a_set_that_another_process_has_fetched_meanwhile_is_taken(tmp_path, monkeypatch, mirror):
    monkeypatch.setattr(MNIST, "resources", prepared_download(tmp_path))
    own = loading._download

    def both(name):
        assert own(name) is None  # the other one
        return own(name)

    monkeypatch.setattr(loading, "_download", both)
    assert len(data.load("mnist").train_y) == 50
    assert sorted(p.name for p in loading.cache_folder().iterdir()) == ["MNIST"]


def test_a_mirror_that_never_answers_is_given_up_on(monkeypatch):
    monkeypatch.setattr(digits, "make", small)
    monkeypatch.setattr(loading, "DOWNLOAD_SECONDS", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setattr(MNIST, "mirrors", [f"http://127.0.0.1:{silent.getsockname()[1]}/"])
        heard = []
        assert data.load("auto", warn=heard.append).name == "digits"
    assert "timed out" in heard[0]


def test_a_download_has_a_short_time_limit_and_leaves_the_default_alone(monkeypatch):
    seen = []
    monkeypatch.setattr(MNIST, "download", lambda self: seen.append(socket.getdefaulttimeout()) or 1 / 0)
    with pytest.raises(ZeroDivisionError):
        loading._download("mnist")
    assert seen == [loading.DOWNLOAD_SECONDS] and socket.getdefaulttimeout() is None


def test_a_cache_that_cannot_be_written_costs_nothing_but_time(monkeypatch):
    monkeypatch.setattr(digits, "make", small)
    monkeypatch.setattr(loading, "_store", lambda *_: (_ for _ in ()).throw(OSError("read-only")))
    assert data.load("digits").name == "digits"


def test_the_embedded_digits_are_of_mnists_size_the_same_for_everybody_and_learnable():
    raw = digits.make()
    assert raw.train_x.shape == (60_000, 1, 28, 28) and raw.test_x.shape == (10_000, 1, 28, 28)
    assert raw.train_x.dtype == torch.uint8
    assert set(raw.train_y.tolist()) == set(raw.test_y.tolist()) == set(range(10))
    assert torch.bincount(raw.train_y).min() > 5000
    images = Images.standardised("digits", raw)
    few = images.train_x[:5000].flatten(1)
    centres = torch.stack([few[images.train_y[:5000] == c].mean(0) for c in range(10)])
    nearest = torch.cdist(images.test_x[:2000].flatten(1), centres).argmin(1)
    assert float((nearest == images.test_y[:2000]).float().mean()) > 0.6


def test_training_and_test_digits_come_from_different_originals(monkeypatch):
    used = []
    monkeypatch.setattr(digits, "_drawn", lambda images, labels, *_: used.append(images) or (images, labels))
    digits.make()
    train, test = ({tuple(x.flatten().tolist()) for x in part} for part in used)
    assert len(train) + len(test) > 1700 and not train & test


@pytest.mark.data
def test_real_mnist_is_the_original():
    if "CL_NVRM_DATA" not in os.environ:
        pytest.skip("set CL_NVRM_DATA to a folder with MNIST")
    images = data.load("mnist", folder=Path(os.environ["CL_NVRM_DATA"]))
    assert images.train_x.shape == (60_000, 1, 28, 28) and images.test_x.shape == (10_000, 1, 28, 28)
    assert torch.bincount(images.train_y).tolist() == [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    assert float(images.train_x.mean()) == pytest.approx(0, abs=1e-3)
    assert float(images.train_x.std()) == pytest.approx(1, abs=1e-3)
