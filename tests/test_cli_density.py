"""``mirrorgen sample --target``: laws and sets by name, files, errors in one line."""

import json
import math
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from mirrorgen import domains, samplers, targets
from mirrorgen.cli import main
from mirrorgen.errors import DomainError
from mirrorgen.sample_cli.expressions import parse_spec
from mirrorgen.sample_cli.sources import DOMAINS, make
from mirrorgen.spec import from_spec, to_spec

QUICK = ["--num", "200", "--warmup", "60", "--quiet"]


@pytest.fixture
def density(tmp_path: Path, monkeypatch) -> Path:
    """A file with log-densities in the working directory."""
    monkeypatch.chdir(tmp_path)
    name = f"laws_{tmp_path.name.replace('-', '_')}"
    path = tmp_path / f"{name}.py"
    path.write_text(
        "import torch\n"
        "from mirrorgen.targets import Dirichlet\n"
        "def half(x):\n    return torch.where(x[..., 0] > 0.5, 0.0, -torch.inf) - 0 * x.sum(-1)\n"
        "def peak(x):\n    return -50 * (x - 0.25).square().sum(-1)\n"
        "def nan(x):\n    return torch.log(-1 - x.square().sum(-1))\n"
        "three = Dirichlet([2.0, 3.0, 4.0])\n"
        "class Law:\n    pass\n"
        "number = 3\n",
        encoding="utf-8",
    )
    yield path
    sys.modules.pop(name, None)


def sample(target: str, *options: str) -> samplers.Chain:
    return main(["sample", "--target", target, *QUICK, *options])


def failing(capsys: pytest.CaptureFixture, target: str, *options: str) -> str:
    """The message of a command that must end with status 2 and write nothing."""
    with pytest.raises(SystemExit) as done:
        sample(target, *options)
    assert done.value.code == 2
    message = capsys.readouterr().err.strip().splitlines()[-1]
    assert message.startswith("mirrorgen sample: error: ")
    return message


def test_help_lists_what_can_be_named(capsys: pytest.CaptureFixture) -> None:
    for args in (["--target", "--help"], ["--help", "--target", "x"]):
        with pytest.raises(SystemExit) as done:
            main(["sample", *args])
        assert done.value.code == 0
        text = capsys.readouterr().out
        for word in ("Dirichlet", "Simplex", "MirroredHMC", "--warmup", "module:function"):
            assert word in text
    with pytest.raises(SystemExit):
        main(["sample", "--help"])
    assert "mirrorgen sample --target --help" in capsys.readouterr().out


def test_a_named_target_is_sampled(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    out = tmp_path / "new" / "x.npy"
    options = ["--num", "1600", "--chains", "16", "--warmup", "150", "--seed", "1", "--out", str(out)]
    chain = main(["sample", "--target", "Dirichlet([2, 3])", *options])
    shown = capsys.readouterr()
    assert "MirroredHMC: 16 chains of 100 draws, 2 coordinates" in shown.out
    assert "1600 of 1600 points (100%) strictly inside in float32" in shown.out
    assert f"{out}: 16 chains of 100 draws" in shown.out
    assert "warning" not in shown.err
    x = np.load(out)
    assert np.array_equal(x, chain.flatten().numpy())
    # Beta(2, 3).
    error = math.sqrt(0.04 / float(chain.ess("mean")[0]))
    assert abs(x[:, 0].mean() - 0.4) < 4.5 * error


def test_formats_agree_and_seeds_repeat(tmp_path: Path) -> None:
    chains = {}
    for name, seed in {"a.npy": "0", "a.csv": "0", "a.safetensors": "0", "b.npy": "1"}.items():
        chains[name] = sample("Dirichlet([2, 3, 4])", "--seed", seed, "--out", str(tmp_path / name))
    first = np.load(tmp_path / "a.npy")
    assert first.shape == (200, 3)
    assert np.array_equal(first, np.loadtxt(tmp_path / "a.csv", delimiter=",", skiprows=1, dtype=np.float32))
    loaded = samplers.Chain.load(tmp_path / "a.safetensors")
    assert np.array_equal(first, loaded.flatten().numpy())
    assert repr(loaded.kernel.domain) == repr(domains.Simplex(3))
    assert not np.array_equal(first, np.load(tmp_path / "b.npy"))


def test_options_reach_the_sampler(tmp_path: Path) -> None:
    out = str(tmp_path / "x.npy")
    options = ["--domain", "Box(-1, 1, dim=2)", "--chains", "5", "--thin", "2", "--dtype", "float64", "--out", out]
    chain = sample("Uniform", *options, "--kernel", "HitAndRun")
    assert (chain.num_chains, chain.num_draws, chain.steps) == (5, 40, 60 + 80)
    assert chain.positions.dtype == torch.float64
    assert chain.kernel.name == "HitAndRun"


def test_starting_points_come_from_files(density: Path) -> None:
    starts = torch.linspace(0.6, 0.9, 3)[:, None].expand(-1, 2).contiguous()
    np.save("starts.npy", starts.numpy())
    np.savetxt("starts.csv", starts.numpy(), delimiter=",", header="x0,x1", comments="")
    options = ["--domain", "Box(dim=2)", "--kernel", "CoordinateHitAndRun", "--out", "x.npy"]
    chains = [sample("Uniform", *options, "--initial", f"starts.{kind}") for kind in ("npy", "csv")]
    assert chains[0].num_chains == 3
    assert torch.allclose(chains[0].positions, chains[1].positions)


def test_functions_of_files_and_modules(density: Path) -> None:
    for place in (str(density), density.name, density.stem):
        chain = sample(f"{place}:peak", "--domain", "Box(dim=2)", "--out", "x.npy")
        assert torch.allclose(chain.flatten().mean(0), torch.full((2,), 0.25), atol=0.1)
    assert sample(f"{density.stem}:three", "--out", "x.npy").kernel.domain.dim == 3
    assert str(Path.cwd()) not in sys.path


def test_trouble_is_told(density: Path, capsys: pytest.CaptureFixture) -> None:
    sample("Uniform", "--domain", "Box(dim=2)", "--num", "40", "--chains", "4", "--warmup", "0", "--out", "x.npy")
    assert "warning: " in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Simplex(21)", domains.Simplex(21)),
        ("Box(-1, 1, dim=10)", domains.Box(-1.0, 1.0, dim=10)),
        ("Box([0, -2.5], [+1, 3])", domains.Box([0.0, -2.5], [1.0, 3.0])),
        ("Box([0] * 3, 1e3)", domains.Box([0.0] * 3, 1e3)),
        ("Product(Simplex(3), Box(dim=2))", domains.Product(domains.Simplex(3), domains.Box(dim=2))),
        ("Polytope([[1, 1], [-1, 0], [0, -1]], b=[1, 0, 0])", None),
    ],
)
def test_expressions(text: str, expected: domains.Domain | None) -> None:
    built = from_spec(parse_spec(text, DOMAINS))
    expected = expected or domains.Polytope([[1.0, 1], [-1, 0], [0, -1]], [1.0, 0, 0])
    assert to_spec(built)["class_path"] == to_spec(expected)["class_path"]
    x = expected.interior_point()
    for point in (x, 2 * x, x + 10):
        assert torch.equal(built.slack(point), expected.slack(point))


def test_specifications_in_files(tmp_path: Path) -> None:
    spec = {
        "class_path": "Product",
        "init_args": {"*": [to_spec(domains.Simplex(3)), {"class_path": "Ball", "init_args": {"dim": 2}}]},
    }
    for name, text in {"d.yaml": yaml.safe_dump(spec), "d.json": json.dumps(spec)}.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
        assert from_spec(parse_spec(str(tmp_path / name), DOMAINS)).dim == 5
    assert from_spec(parse_spec(json.dumps(spec), DOMAINS)).dim == 5
    (tmp_path / "bad.yaml").write_text("a: [", encoding="utf-8")
    with pytest.raises(DomainError, match="not valid YAML"):
        parse_spec(str(tmp_path / "bad.yaml"), DOMAINS)


def test_targets_take_their_domain_from_either_place() -> None:
    law, domain = make("TruncatedNormal(location=[0, 2], covariance=0.5)", "Box(-1, 1, dim=2)")
    assert isinstance(law, targets.TruncatedNormal)
    assert law.domain is domain
    twin, _ = make("TruncatedNormal(Box(-1, 1, dim=2), [0, 2], 0.5)", None)
    x = torch.tensor([[0.1, 0.2], [-0.9, 0.9]])
    assert torch.equal(law(x), twin(x))


@pytest.mark.parametrize(
    "text",
    [
        "__import__('os').system('true')", "Box(open('x'))", "Box(().__class__)", "Box(dim=1 if 1 else 2)", "Box(**{})",
        "[Box][0](1)", "Box(lambda: 1)", "(1, 2)", "Box(dim=[0] * 10**9)", "Box(dim=[0] * 100000000)", "Box(",
        '{"class_path": "os.system", "init_args": {"*": ["true"]}}', '{"class_path": "mirrorgen.spec.os"}', "{",
        "nowhere.yaml",
    ],
)  # fmt: skip
def test_nothing_but_known_classes_is_built(text: str) -> None:
    with pytest.raises(DomainError):
        from_spec(parse_spec(text, DOMAINS))


@pytest.mark.parametrize(
    ("target", "options", "message"),
    [
        ("Dirichle([4])", [], "did you mean Dirichlet"),
        ("Qzxv", [], "Known: AnisotropicLaplace, Checkerboard"),
        ("Uniform", [], "add --domain"),
        ("Simplex(3)", [], "no target"),
        ("Dirichlet(foo=3)", [], "concentration"),
        ("Dirichlet([1, -1])", [], "positive parameters"),
        ("Dirichlet([1, 1])", ["--domain", "Simplex(2)"], "leave --domain out"),
        ("{stem}:peak", [], "has no domain of its own"),
        ("{stem}:nope", [], "has no 'nope'"),
        ("{stem}:Law", [], "is a type"),
        ("{stem}:number", [], "is a int"),
        ("nowhere_module:f", [], "no module 'nowhere_module'"),
        ("nowhere.py:f", [], "there is no file nowhere.py"),
        ("{stem}:nan", ["--domain", "Box(dim=2)"], "not finite"),
        ("Uniform", ["--domain", "Boxx(dim=2)"], "did you mean Box"),
        ("Uniform", ["--domain", "nowhere.yaml"], "there is no file nowhere.yaml"),
        ("Dirichlet([2, 3])", ["--kernel", "NUTS"], "choose auto or one of"),
        ("Dirichlet([2, 3])", ["--chains", "0"], "must be positive"),
        ("Dirichlet([2, 3])", ["--num", "0"], "must be positive"),
        ("Dirichlet([2, 3])", ["--seed", "-1"], "--seed must lie"),
        ("Dirichlet([2, 3])", ["--out", "x.txt"], "must end in .safetensors, .npy, .csv, .nc"),
        ("Dirichlet([2, 3])", ["--device", "toaster"], "toaster"),
        ("Dirichlet([2, 3])", ["--initial", "nowhere.npy"], "cannot be read"),
        ("Dirichlet([2, 3])", ["--initial", "three.npy"], "one row of 2 numbers per chain"),
    ],
)
def test_bad_options(density: Path, capsys: pytest.CaptureFixture, target: str, options: list, message: str) -> None:
    np.save("three.npy", np.ones((2, 3)))
    before = sorted(p.name for p in density.parent.iterdir() if p.name != "__pycache__")
    options = ["--out", "x.npy", *options]
    assert message in failing(capsys, target.format(stem=density.stem), *options)
    assert sorted(p.name for p in density.parent.iterdir() if p.name != "__pycache__") == before


def test_arviz_is_asked_for_before_sampling(tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "arviz", None)
    monkeypatch.setattr("mirrorgen.sample_cli.density.sample", lambda *_, **__: pytest.fail("sampled first"))
    assert "mirrorgen[arviz]" in failing(capsys, "Dirichlet([2, 3])", "--out", str(tmp_path / "x.nc"))
