"""Chains on disk and for ArviZ: tensors and plain facts, no pickles."""

import importlib
import json
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from mirrorgen.errors import DomainError, MissingExtraError
from mirrorgen.geometry.domains import Domain
from mirrorgen.samplers.base import Info, Kernel, Noise, NoiseShape
from mirrorgen.spec import from_spec, to_spec

if TYPE_CHECKING:
    from mirrorgen.samplers.chain import Chain

__all__ = ["SUFFIXES", "RecordedKernel", "check_suffix", "load", "save", "to_arviz"]

SUFFIXES = (".safetensors", ".nc")

_FACTS = "mirrorgen_chain"
# ArviZ's names of our statistics.
_NAMES = {"acceptance": "acceptance_rate", "log_density": "lp"}


@dataclass(frozen=True, eq=False, kw_only=True)
class RecordedKernel(Kernel):
    """What a file knows of the kernel that made its draws: it describes and cannot step.

    Args:
        kind: Name of the class.
        recorded_domain: The domain, or None if it has no plain-data form.
        settings: Settings that were numbers or strings.
        target_acceptance: As the kernel had it.
        interacting: As the kernel had it.
    """

    kind: str
    recorded_domain: Domain | None
    settings: dict[str, Any]
    target_acceptance: float | None = None  # type: ignore[misc]  # of the class elsewhere
    interacting: bool = False  # type: ignore[misc]

    @property
    def name(self) -> str:
        return self.kind

    @property
    def domain(self) -> Domain:
        if self.recorded_domain is None:
            raise DomainError("the file does not hold the domain of its chain, which has no plain-data form")
        return self.recorded_domain

    @property
    def noise_shape(self) -> NoiseShape:
        return NoiseShape()

    def __getattr__(self, name: str) -> Any:
        settings = self.__dict__.get("settings", {})
        if name in settings:
            return settings[name]
        raise AttributeError(f"the recorded {self.__dict__.get('kind')} has no setting {name!r}")

    def init(self, x: Tensor) -> Any:
        raise DomainError(self._refusal())

    def step(self, state: Any, noise: Noise) -> tuple[Any, Info]:
        raise DomainError(self._refusal())

    def _refusal(self) -> str:
        return (
            f"a chain from a file cannot go on: the log-density is not in it; build {self.kind} again with settings "
            f"{self.settings} and run it from chain.positions[-1]"
        )


def check_suffix(path: Path) -> None:
    """Raise unless a chain can be saved under this name, for use before long work."""
    if path.suffix not in SUFFIXES:
        raise DomainError(f"chains are saved as {' or '.join(SUFFIXES)}, got {path.name!r}")
    if path.suffix == ".nc":
        _arviz()


def save(chain: "Chain", path: Path) -> Path:
    """Write ``chain``, see ``Chain.save``."""
    check_suffix(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.stem}.partial{path.suffix}")
    try:
        (_write_netcdf if path.suffix == ".nc" else _write_safetensors)(chain, partial)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
    return path


def load(path: Path, allow: tuple[str, ...] = ()) -> dict[str, Any]:
    """The arguments of ``Chain`` from a file that ``save`` wrote, see ``Chain.load``."""
    if not path.is_file():
        raise DomainError(f"there is no file {path}")
    tensors, facts = _read_netcdf(path) if path.suffix == ".nc" else _read_safetensors(path)
    domain = None if facts["domain"] is None else from_spec(facts["domain"], allow=allow)
    return {
        "positions": tensors["positions"],
        "dual": tensors.get("dual"),
        "stats": {name.removeprefix("stats."): t for name, t in tensors.items() if name.startswith("stats.")},
        "kernel": RecordedKernel(
            kind=facts["kernel"],
            recorded_domain=domain,
            settings=facts["settings"],
            target_acceptance=facts["target_acceptance"],
            interacting=facts["interacting"],
        ),
        "state": None,
        "seed": facts["seed"],
        "steps": facts["steps"],
        "meta": facts["meta"],
    }


def to_arviz(chain: "Chain") -> Any:
    """The chain for ArviZ of either line, see ``Chain.to_arviz``."""
    arviz = _arviz()
    groups = {"posterior": {"x": _array(chain.positions)}}
    groups["sample_stats"] = {_NAMES.get(name, name): _array(value) for name, value in chain.stats.items()}
    groups["sample_stats"]["diverging"] = _array(chain.stats["nonfinite"] > 0)
    dual = None if chain.dual is None else {"y": _array(chain.dual)}
    attrs = {_FACTS: json.dumps(_facts(chain)), "inference_library": "mirrorgen"}
    dims = {"x": ["coordinate"], "y": ["dual_coordinate"]}
    if int(arviz.__version__.split(".")[0]) >= 1:
        tree = arviz.from_dict(groups | ({} if dual is None else {"unconstrained_posterior": dual}), dims=dims)
        tree["posterior"].attrs.update(attrs)
        return tree
    data = arviz.from_dict(**groups, dims=dims, posterior_attrs=attrs)
    if dual is not None:
        data.add_groups({"unconstrained_posterior": dual}, dims=dims)
    return data


def _arviz() -> Any:
    try:
        return importlib.import_module("arviz")
    except ImportError as error:
        raise MissingExtraError.for_extra("arviz", "arviz") from error


def _array(tensor: Tensor) -> Any:
    """``(draws, chains, ...)`` as NumPy's ``(chains, draws, ...)``."""
    return tensor.detach().cpu().transpose(0, 1).contiguous().numpy()


def _facts(chain: "Chain") -> dict[str, Any]:
    try:
        domain = to_spec(chain.kernel.domain)
    except (TypeError, DomainError):
        domain = None
    return {
        "kernel": chain.kernel.name,
        "domain": domain,
        "settings": _settings(chain.kernel),
        "target_acceptance": chain.kernel.target_acceptance,
        "interacting": chain.kernel.interacting,
        "seed": chain.seed,
        "steps": chain.steps,
        "meta": {k: v for k, v in chain.meta.items() if isinstance(v, bool | int | float | str)},
    }


def _settings(kernel: Kernel) -> dict[str, Any]:
    if isinstance(kernel, RecordedKernel):
        return kernel.settings
    values = {entry.name: getattr(kernel, entry.name) for entry in fields(kernel)}
    scalars = {k: v.item() if isinstance(v, Tensor) and v.ndim == 0 else v for k, v in values.items()}
    return {k: v for k, v in scalars.items() if isinstance(v, bool | int | float | str)}


def _write_safetensors(chain: "Chain", path: Path) -> None:
    tensors = {"positions": chain.positions, "dual": chain.dual}
    tensors |= {f"stats.{name}": value for name, value in chain.stats.items()}
    kept = {name: t.detach().cpu().contiguous() for name, t in tensors.items() if t is not None}
    save_file(kept, path, metadata={_FACTS: json.dumps(_facts(chain))})


def _read_safetensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    try:
        with safe_open(path, framework="pt") as file:
            facts = (file.metadata() or {}).get(_FACTS)
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # not a dictionary
    except SafetensorError as error:
        raise DomainError(f"{path} is no safetensors file: {error}") from error
    return tensors, _parse(path, facts)


def _write_netcdf(chain: "Chain", path: Path) -> None:
    data = to_arviz(chain)
    try:
        data.to_netcdf(str(path))
    except ImportError as error:
        raise MissingExtraError(f"{error}; for .nc files run: pip install h5netcdf h5py") from error


def _read_netcdf(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    data = _arviz().from_netcdf(str(path))
    facts = _parse(path, data["posterior"].attrs.get(_FACTS))
    found = {"positions": data["posterior"]["x"]}
    if "unconstrained_posterior" in _groups(data):
        found["dual"] = data["unconstrained_posterior"]["y"]
    ours = {theirs: name for name, theirs in _NAMES.items()}
    found |= {f"stats.{ours.get(str(k), k)}": v for k, v in data["sample_stats"].items() if k != "diverging"}
    return {name: torch.from_numpy(v.values).transpose(0, 1).contiguous() for name, v in found.items()}, facts


def _groups(data: Any) -> list[str]:
    groups = data.groups() if callable(data.groups) else data.groups
    return [name.strip("/") for name in groups]


def _parse(path: Path, facts: str | None) -> dict[str, Any]:
    if facts is None:
        raise DomainError(f"{path} holds no chain that Chain.save wrote")
    return json.loads(facts)
