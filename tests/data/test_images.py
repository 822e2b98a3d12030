"""Image files and data sets on this machine: what is read, what is refused, and how."""

import builtins
import socket

import numpy as np
import pytest
import torch

from mirrorgen.data import HuggingFaceImages, ImageFolder
from mirrorgen.data.images import to_points
from mirrorgen.errors import DomainError, MissingExtraError, ShapeError

Image = pytest.importorskip("PIL.Image")
COLOURS = [(250, 10, 10), (10, 250, 10), (10, 10, 250)]


def picture(k, width=24, height=16):
    """One colour per class with a gradient from left to right in its second channel."""
    pixels = np.empty((height, width, 3), np.uint8)
    pixels[:] = COLOURS[k % 3]
    pixels[..., 1] = np.linspace(0, 255, width, dtype=np.uint8)
    return pixels


@pytest.fixture
def folder(tmp_path):
    for k in range(12):
        place = tmp_path / "images" / "abc"[k % 3]
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture(k)).save(place / f"{k:02d}.{'png' if k % 2 else 'PNG'}")
    return tmp_path / "images"


@pytest.fixture
def offline(monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError("nothing may be fetched")

    monkeypatch.setattr(socket.socket, "connect", refuse)


def images(pixels, size=16):
    return pixels.reshape(-1, 3, size, size)


def test_folder_gives_centred_squares_and_classes(folder):
    data = ImageFolder(folder, 16, labels=True, fractions=(0.25, 0.25))
    parts = [data.split(name) for name in ("train", "val", "test")]
    assert [len(pixels) for pixels, _ in parts] == [6, 3, 3]
    pixels, labels = (torch.cat(pieces) for pieces in zip(*parts, strict=True))
    assert pixels.dtype == torch.uint8
    assert torch.equal(labels.bincount(), torch.tensor([4, 4, 4]))
    for image, label in zip(images(pixels), labels, strict=True):
        expected = torch.from_numpy(picture(int(label)))[:, 4:20].movedim(-1, 0)
        assert torch.equal(image, expected)


def test_shrinking_and_cutting(tmp_path):
    pixels = np.zeros((40, 64, 3), np.uint8)
    pixels[:, 32:] = 255
    for k in range(3):
        Image.fromarray(pixels).save(tmp_path / f"{k}.png")
    small = images(ImageFolder(tmp_path, 10, fractions=(0.34, 0.34)).split("train")[0], 10)
    assert (small[..., :4] < 5).all()
    assert (small[..., 6:] > 250).all()
    cut = images(ImageFolder(tmp_path, 10, resize=False, fractions=(0.34, 0.34)).split("train")[0], 10)
    assert torch.equal(cut, (torch.arange(10) >= 5).to(torch.uint8).mul(255).expand(1, 3, 10, 10))
    grey = ImageFolder(tmp_path, 10, channels=1, fractions=(0.34, 0.34))
    assert grey.points().shape == (1, 100)


def test_orientation_tags_are_obeyed(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # Stored lying on its side.
    for k in range(3):
        Image.fromarray(picture(k, 16, 16)).rotate(90).save(tmp_path / f"{k}.png", exif=exif)
    read = images(ImageFolder(tmp_path, 16, fractions=(0.34, 0.34)).split("train")[0])
    assert torch.equal(read[0, 1], torch.from_numpy(picture(0, 16, 16))[..., 1])


def test_points_are_dequantised_inside_the_box(folder):
    data = ImageFolder(folder, 16)
    loader = data.loader("train")
    x = loader.batch(0)[0]
    assert x.dtype == torch.float32
    assert data.domain.contains(x).all()
    assert torch.equal(((x + 1) * 128).floor().clamp(0, 255), data.split("train")[0][loader.rows(0)].float())
    assert not torch.equal(x.mean(), loader.batch(1)[0].mean())
    every = torch.arange(256, dtype=torch.uint8).repeat(1000, 1)
    x = to_points(every, torch.Generator().manual_seed(0))
    assert (x.abs() < 1).all()
    assert torch.allclose(
        x.mean(0), (2 * torch.arange(256) + 1) / 256 - 1, rtol=0, atol=6 * 2 / 256 / 12**0.5 / 1000**0.5
    )


def test_folder_refuses_what_it_cannot_use(tmp_path, folder):
    with pytest.raises(DomainError, match="no folder"):
        ImageFolder(tmp_path / "nowhere", 8).setup()
    (tmp_path / "empty").mkdir()
    with pytest.raises(DomainError, match=r"no \.png, \.jpg or \.jpeg"):
        ImageFolder(tmp_path / "empty", 8).setup()
    with pytest.raises(ShapeError, match="24x16, smaller than size=20"):
        ImageFolder(folder, 20).setup()
    with pytest.raises(ShapeError, match="no image is left for val"):
        ImageFolder(folder, 8, fractions=(0.0, 0.2)).setup()
    for name, content in (("x.png", b"not an image"), ("y.jpg", (folder / "a" / "00.PNG").read_bytes()[:60])):
        (folder / "a" / name).write_bytes(content)
    with pytest.raises(DomainError, match=r"2 of 14 images cannot be read: a/x\.png, a/y\.jpg;"):
        ImageFolder(folder, 8).setup()
    with pytest.raises(DomainError, match="1 or 3 channels"):
        ImageFolder(folder, 8, channels=2)
    with pytest.raises(DomainError, match="fractions"):
        ImageFolder(folder, 8, fractions=(0.5, 0.5))


def test_labels_need_classes_and_bytes_need_eight_bits(tmp_path):
    Image.fromarray(picture(0)).save(tmp_path / "loose.png")
    with pytest.raises(DomainError, match=r"loose\.png lies directly"):
        ImageFolder(tmp_path, 8, labels=True).setup()
    Image.fromarray(np.full((16, 16), 40_000, np.uint16)).save(tmp_path / "deep.png")
    with pytest.raises(ShapeError, match=r"deep\.png has pixels of mode I"):
        ImageFolder(tmp_path, 8).setup()


@pytest.fixture
def table(tmp_path):
    """The images as a data set of twelve rows, encoded like on the hub."""
    datasets = pytest.importorskip("datasets")
    return datasets.Dataset.from_dict(
        {"image": [Image.fromarray(picture(k)) for k in range(12)], "label": [k % 3 for k in range(12)]},
        features=datasets.Features({"image": datasets.Image(), "label": datasets.Value("int64")}),
    )


def same_as_folder(data):
    pixels, labels = (torch.cat(p) for p in zip(*(data.split(n) for n in ("train", "val", "test")), strict=True))
    assert len(pixels) == 12
    for image, label in zip(images(pixels), labels, strict=True):
        assert torch.equal(image, torch.from_numpy(picture(int(label)))[:, 4:20].movedim(-1, 0))


@pytest.mark.parametrize("kind", ["disk", "parquet", "folder of parquet", "arrow"])
def test_data_sets_in_every_format(table, tmp_path, kind, offline):
    path = tmp_path / "set"
    if kind == "disk":
        table.save_to_disk(path)
    elif kind == "parquet":
        path = tmp_path / "set.parquet"
        table.to_parquet(path)
    elif kind == "folder of parquet":
        path.mkdir()
        table.select(range(8)).to_parquet(path / "train-00000-of-00001.parquet")
        table.select(range(8, 12)).to_parquet(path / "test-00000-of-00001.parquet")
    else:
        table.save_to_disk(path)
        path = next(path.glob("*.arrow"))
    data = HuggingFaceImages(path, 16, labels=True, cache_dir=tmp_path / "cache")
    same_as_folder(data)
    if kind == "folder of parquet":
        assert [len(data.points(n)) for n in ("train", "val", "test")] == [7, 1, 4]


def test_named_splits_are_used(table, tmp_path, offline):
    import datasets

    parts = {"train": range(6), "validation": range(6, 8), "test": range(8, 12)}
    datasets.DatasetDict({name: table.select(rows) for name, rows in parts.items()}).save_to_disk(tmp_path / "set")
    data = HuggingFaceImages(tmp_path / "set", 16, labels=True)
    assert [len(data.points(n)) for n in ("train", "val", "test")] == [6, 2, 4]
    assert data.conditions("val").tolist() == [0, 1]


def test_image_folder_builder(folder, tmp_path, offline):
    pytest.importorskip("datasets")
    same_as_folder(HuggingFaceImages(folder, 16, labels=True, cache_dir=tmp_path / "cache"))


def test_data_sets_refuse_what_they_cannot_use(table, tmp_path, offline):
    with pytest.raises(DomainError, match="no file or folder"):
        HuggingFaceImages(tmp_path / "nowhere", 8).setup()
    (tmp_path / "empty").mkdir()
    with pytest.raises(DomainError, match="holds no images"):
        HuggingFaceImages(tmp_path / "empty", 8, cache_dir=tmp_path / "cache").setup()
    (tmp_path / "set.txt").write_text("no images")
    with pytest.raises(DomainError, match=r"cannot read set\.txt"):
        HuggingFaceImages(tmp_path / "set.txt", 8).setup()
    path = tmp_path / "set.parquet"
    table.to_parquet(path)
    with pytest.raises(ShapeError, match="no column 'picture'; it has image, label"):
        HuggingFaceImages(path, 8, column="picture", cache_dir=tmp_path / "cache").setup()
    broken = [{"bytes": b"no image", "path": None}, {"bytes": None, "path": None}]
    import pyarrow
    import pyarrow.parquet

    pyarrow.parquet.write_table(pyarrow.table({"image": broken}), tmp_path / "broken.parquet")
    with pytest.raises(DomainError, match=r"2 of 2 images cannot be read: broken\.parquet\[train\] row 0"):
        HuggingFaceImages(tmp_path / "broken.parquet", 8, cache_dir=tmp_path / "cache").setup()


@pytest.mark.parametrize(("module", "named"), [("datasets", "datasets"), ("PIL", "pillow")])
def test_missing_extras_are_named(folder, tmp_path, monkeypatch, module, named):
    real = builtins.__import__

    def missing(name, *args, **kwargs):
        if name.split(".")[0] == module:
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", missing)
    data = ImageFolder(folder, 8) if module == "PIL" else HuggingFaceImages(tmp_path, 8)
    with pytest.raises(MissingExtraError, match=rf"{named} is not installed.*mirrorgen\[images\]"):
        data.setup()
