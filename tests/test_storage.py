"""Models on disk: what is damaged, foreign or cannot be written gets a typed error that names the file."""

import copy
import json
from pathlib import Path

import pytest
import torch

from mirrorgen import domains as D
from mirrorgen import mirror_maps as M
from mirrorgen.cli import main
from mirrorgen.errors import DomainError
from mirrorgen.flows import MirrorFlow
from mirrorgen.nets import MLP
from mirrorgen.spec import from_spec, to_spec
from mirrorgen.storage import load, save


def small_flow() -> MirrorFlow:
    torch.manual_seed(0)
    domain = D.Polytope([[1.0, 0.3], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]], [0.7, 0.2, 0.6, 0.9])
    flow = MirrorFlow(M.SlackEntropy(domain), MLP(dim=2, hidden=(8,)))
    flow.fit_dual_transform(domain.sample_uniform(100, generator=torch.Generator().manual_seed(1)))
    return flow


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return save(small_flow(), tmp_path / "model")


def draw(flow: MirrorFlow) -> torch.Tensor:
    return flow.sample(5, generator=torch.Generator().manual_seed(0))


def test_precision_survives_the_disk_and_changes_back_and_forth(tmp_path: Path) -> None:
    flow = small_flow()
    double = copy.deepcopy(flow).double()
    for model in (flow, double):
        assert torch.equal(draw(load(save(model, tmp_path / "m"))), draw(model))
    assert draw(double).dtype == torch.float64
    assert torch.equal(draw(double.float()), draw(flow))


@pytest.mark.parametrize("file", ["config.json", "model.safetensors"])
@pytest.mark.parametrize("content", [b"", b"garbage", b"\xff\xfe\x00", b"[]", b'{"format": 1}'])
def test_damaged_folders(folder: Path, file: str, content: bytes) -> None:
    (folder / file).write_bytes(content)
    with pytest.raises(DomainError):
        load(folder)
    (folder / file).unlink()
    with pytest.raises(DomainError, match=f"{file} is missing"):
        load(folder)


def test_truncated_weights(folder: Path) -> None:
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-50])
    with pytest.raises(DomainError, match="damaged"):
        load(folder)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"class_path": "os.system"}, "not allowed"),
        ({"class_path": None}, "not allowed"),
        ({"class_path": "mirrorgen.storage.load"}, "not a class"),
        ({"class_path": "mirrorgen.flows.Nope"}, "does not exist"),
        ({"init_args": {"surprise": 1}}, "does not take these arguments"),
        ({"init_args": [1]}, "a specification is"),
        (to_spec(D.Simplex(3)), "do not fit"),
    ],
)
def test_foreign_specifications(folder: Path, change: dict, reason: str) -> None:
    config = json.loads((folder / "config.json").read_text())
    config["model"] |= change
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(DomainError, match=reason):
        load(folder)


@pytest.mark.parametrize("data", [{"data": "x", "dtype": "float64"}, {"data": [1.0], "dtype": "load"}, {}])
def test_tensors_of_specifications_are_checked(data: dict) -> None:
    with pytest.raises(DomainError):
        from_spec({"class_path": "torch.Tensor", "init_args": data})


@pytest.mark.parametrize(
    "content",
    [[1], {"x": 1}, {"hyper_parameters": 3}, {"hyper_parameters": {"flow": to_spec(D.Simplex(3))}}],
)
def test_foreign_checkpoints(tmp_path: Path, content: object) -> None:
    path = tmp_path / "last.ckpt"
    torch.save(content, path)
    with pytest.raises(DomainError, match=r"last\.ckpt"):
        load(path)
    path.write_bytes(b"")
    with pytest.raises(DomainError, match="not a readable checkpoint"):
        load(path)


def test_code_in_checkpoints_does_not_run(tmp_path: Path) -> None:
    class Payload:
        def __reduce__(self) -> tuple:
            return Path.touch, (tmp_path / "ran",)

    torch.save({"hyper_parameters": Payload()}, tmp_path / "last.ckpt")
    with pytest.raises(DomainError, match="not a readable checkpoint"):
        load(tmp_path / "last.ckpt")
    assert not (tmp_path / "ran").exists()


def test_places_that_cannot_be_written_are_refused_before_the_work(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(MirrorFlow, "sample", lambda *_, **__: pytest.fail("sampled before checking"))
    taken = tmp_path / "folder.npy"
    taken.mkdir()
    for out in (taken, folder / "config.json" / "x.npy"):
        with pytest.raises(SystemExit):
            main(["sample", "--ckpt", str(folder), "--num", "3", "--out", str(out), "--quiet"])
        assert "cannot be written" in capsys.readouterr().err
    with pytest.raises(DomainError, match="cannot be written"):
        save(D.Simplex(3), folder / "config.json")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["folder.npy", "model"]
    save(D.Simplex(3), tmp_path / "simplex")
    with pytest.raises(SystemExit):
        main(["sample", "--ckpt", str(tmp_path / "simplex"), "--num", "3", "--out", str(tmp_path / "x.npy")])
    assert "nothing to sample" in capsys.readouterr().err
