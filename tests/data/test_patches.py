"""Patches of photographs: where they come from, that splits are apart, and what PNG makes of them."""

import io
import socket
import sys
import zlib

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import stats
from sklearn.datasets import load_sample_images

from mirrorgen.data import Patches, png_bits_per_dim
from mirrorgen.data import patches as module
from mirrorgen.data.digits import dequantize
from mirrorgen.errors import DomainError, MissingExtraError, ShapeError

HEIGHT, WIDTH = 427, 640
SPLITS = ("train", "val", "test")


@pytest.fixture(scope="module")
def patches():
    return Patches(labels=True)


def coded_photograph():
    """A photograph whose pixels say where they are, ``(3, HEIGHT, WIDTH)``."""
    row, column = torch.arange(HEIGHT).unsqueeze(1).expand(-1, WIDTH), torch.arange(WIDTH).expand(HEIGHT, -1)
    return torch.stack([row % 256, column % 256, 4 * (row // 256) + column // 256]).byte()


def places(pixels, size):
    """Rows and columns ``(n, size, size)`` that patches of the coded photograph come from."""
    low_row, low_column, high = pixels.reshape(-1, 3, size, size).long().unbind(1)
    return low_row + 256 * (high // 4), low_column + 256 * (high % 4)


@pytest.mark.parametrize(("size", "counts"), [(16, (24_216, 588, 588)), (32, (18_736, 84, 84))])
def test_counts_are_those_of_the_docstring(size, counts):
    data = Patches(size=size, labels=True)
    for name, count in zip(SPLITS, counts, strict=True):
        pixels, labels = data.split(name)
        assert pixels.dtype == torch.uint8
        assert pixels.shape == (count, 3 * size * size)
        assert labels.bincount().tolist() == [count // 2, count // 2]
        assert f"{count:,}" in Patches.__doc__
    x = data.points("test")
    assert x.dtype == torch.float32
    assert x.shape[1] == data.domain.dim == 3 * size * size
    assert data.domain.contains(x).all()
    assert Patches(size=size).conditions() is None


@pytest.mark.parametrize(("size", "strides"), [(16, (3, 5)), (32, (4, None))])
def test_splits_share_no_pixel(size, strides, monkeypatch):
    monkeypatch.setattr(module, "_photographs", lambda: [coded_photograph()])
    data = Patches(size=size, stride=strides[0], eval_stride=strides[1])
    covered = torch.zeros(3, HEIGHT, WIDTH, dtype=torch.bool)
    for part, name in enumerate(SPLITS):
        row, column = places(data.split(name)[0], size)
        # Every patch is one square of the photograph.
        across = torch.arange(size)
        assert torch.equal(row, row[:, :1, :1] + across.unsqueeze(1).expand_as(row))
        assert torch.equal(column, column[:, :1, :1] + across.expand_as(column))
        assert len(torch.unique(row[:, 0, 0] * WIDTH + column[:, 0, 0])) == len(row)
        covered[part, row, column] = True
    assert not bool((covered.sum(0) > 1).any())
    assert float(covered[0].float().mean()) > 0.6
    # One held-out cell of 61 x 64 pixels per row of cells, all in different columns.
    for part in (1, 2):
        row, column = covered[part].nonzero(as_tuple=True)
        cells = torch.unique(torch.stack([row // 61, column // 64]), dim=1)
        assert cells[0].tolist() == list(range(7))
        assert len(cells[1].unique()) == 7


def test_pixels_are_those_of_the_photographs(patches, monkeypatch):
    found = {name: patches.split(name) for name in SPLITS}
    monkeypatch.setattr(module, "_photographs", lambda: [coded_photograph()] * 2)
    coded = Patches(labels=True)
    photographs = load_sample_images().images
    for name in SPLITS:
        pixels, labels = found[name]
        row, column = places(coded.split(name)[0], 16)
        for k in (0, len(pixels) // 3, len(pixels) - 1):
            i, j = int(row[k, 0, 0]), int(column[k, 0, 0])
            square = photographs[int(labels[k])][i : i + 16, j : j + 16]
            assert np.array_equal(pixels[k].reshape(3, 16, 16).numpy(), np.moveaxis(square, -1, 0))


def test_the_split_does_not_depend_on_the_seed():
    one, two = (Patches(size=32, stride=16, seed=s) for s in (1, 2))
    assert all(torch.equal(one.split(name)[0], two.split(name)[0]) for name in SPLITS)
    first = one.loader("train").batch(0)[0]
    assert torch.equal(first, one.loader("train").batch(0)[0])
    assert not torch.equal(first, two.loader("train").batch(0)[0])


def test_dequantisation_is_uniform_and_keeps_the_levels():
    k = torch.tensor([0, 1, 127, 128, 200, 254, 255], dtype=torch.uint8).repeat(400_000, 1)
    x = dequantize(k, torch.Generator().manual_seed(0), levels=256)
    assert x.dtype == torch.float32
    assert bool(((x > 0) & (x < 1)).all())
    # About 20 of the draws would round up to the next level.
    assert torch.equal((x.double() * 256).floor(), k.double())
    u = (x.double() * 256 - k).numpy()
    assert all(stats.kstest(u[:, j], "uniform").pvalue > 1e-4 for j in range(k.shape[1]))


def test_batches_are_dequantised_afresh():
    data = Patches(size=32, stride=32)
    everything = len(data.split("train")[0])
    data.batch_size = everything
    first, second = (data.loader("train").batch(k)[0] for k in (0, 1))
    levels = [(x * 256).floor() for x in (first, second)]
    order = [x.sum(1).argsort() for x in levels]
    assert torch.equal(*(x.sum(1)[rows] for x, rows in zip(levels, order, strict=True)))
    assert not torch.equal(first[order[0]], second[order[1]])


def reference_bits(image):
    """PNG by hand: the best of five filters on all rows and Huffman coding; an upper bound for a fair encoder."""
    x = image.reshape(image.shape[0], -1).astype(int)
    left, above = np.zeros_like(x), np.zeros_like(x)
    left[:, 3:], above[1:] = x[:, :-3], x[:-1]
    predictions = (np.zeros_like(x), left, above, (left + above) // 2)
    sizes = []
    for kind, prediction in enumerate(predictions):
        rows = np.concatenate([np.full((len(x), 1), kind), (x - prediction) % 256], 1).astype(np.uint8)
        coder = zlib.compressobj(9, zlib.DEFLATED, 15, 9, zlib.Z_HUFFMAN_ONLY)
        sizes.append(len(coder.compress(rows.tobytes()) + coder.flush()))
    return 8 * min(sizes) / image.size


def test_png_bits(patches):
    pixels = patches.split("test")[0][::20]
    images = pixels.reshape(-1, 3, 16, 16).movedim(1, -1).numpy()
    for image in images[:5]:
        decoded = np.asarray(Image.open(io.BytesIO(module.png_file(image))))
        assert np.array_equal(decoded, image)
    chosen = np.array([len(module.png_file(image)) for image in images])
    for strategy in range(4):
        for options in ({"compress_level": 9}, {"optimize": True}):
            files = [io.BytesIO() for _ in images]
            for image, file in zip(images, files, strict=True):
                Image.fromarray(image).save(file, "png", compress_type=strategy, **options)
            assert np.mean([file.tell() for file in files]) > chosen.mean()
    bits = png_bits_per_dim(pixels)
    assert bits.shape == (len(pixels),)
    # Signature, header and end, and the frame of the data: 8 + 25 + 12 + 12 bytes.
    torch.testing.assert_close(png_bits_per_dim(pixels, container=True) - bits, torch.full_like(bits, 57 * 8 / 768))
    by_hand = torch.tensor([reference_bits(image) for image in images])
    assert float(bits.mean()) < float(by_hand.mean())
    assert float(bits.mean()) > 0.9 * float(by_hand.mean())


def test_png_bits_of_noise_and_of_nothing():
    noise = torch.randint(0, 256, (4, 3072), generator=torch.Generator().manual_seed(0)).byte()
    assert float(png_bits_per_dim(noise).min()) > 8
    assert float(png_bits_per_dim(torch.full((1, 3072), 7).byte())) < 0.15


def test_photographs_need_no_network(monkeypatch):
    def refuse(*args):
        raise AssertionError("the network was used")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    china, flower = module._photographs()
    assert china.shape == flower.shape == (3, HEIGHT, WIDTH)
    assert china.dtype == torch.uint8


def test_bad_arguments_are_named():
    with pytest.raises(DomainError, match="16 or 32"):
        Patches(size=8)
    with pytest.raises(DomainError, match="strides"):
        Patches(stride=0)
    with pytest.raises(ShapeError, match="uint8"):
        png_bits_per_dim(torch.rand(2, 768))
    with pytest.raises(ShapeError, match="uint8"):
        png_bits_per_dim(torch.zeros(2, 100, dtype=torch.uint8))


@pytest.mark.parametrize(("package", "extra"), [("sklearn.datasets", "data"), ("PIL", "images")])
def test_missing_packages_are_named(package, extra, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingExtraError, match=rf"mirrorgen\[{extra}\]"):
        Patches().split("train")
