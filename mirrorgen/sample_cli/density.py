"""``mirrorgen sample --target``: draw from a log-density on a convex set."""

import argparse
import inspect
import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from mirrorgen import samplers
from mirrorgen.errors import DomainError
from mirrorgen.geometry.domains import Domain
from mirrorgen.sample_cli.expressions import classes
from mirrorgen.sample_cli.points import check_device, write_points, writer
from mirrorgen.sample_cli.sources import DOMAINS, TARGETS, make
from mirrorgen.samplers.api import sample
from mirrorgen.samplers.chain import Chain
from mirrorgen.samplers.chain_files import SUFFIXES, check_suffix
from mirrorgen.storage import check_writable

__all__ = ["parser", "run"]

# Those that need nothing but the log-density and the set, under the names that ``sample`` knows.
KERNELS = {
    name: kernel
    for name, kernel in classes(samplers, samplers.Kernel).items()
    if {p.name for p in inspect.signature(kernel).parameters.values() if p.default is p.empty}
    <= {"log_density", "mirror_map", "body", "space"}
}

EPILOG = """targets:
{targets}

domains:
{domains}

kernels:
{kernels}

examples:
  mirrorgen sample --target "Dirichlet([4] * 21)" --num 10000 --out samples.npy
  mirrorgen sample --target Uniform --domain "Birkhoff(4)" --num 10000 --out samples.safetensors
  mirrorgen sample --target "TruncatedNormal(location=2)" --domain "Box(-1, 1, dim=10)" --num 10000 --out samples.nc
  mirrorgen sample --target model.py:log_density --domain domain.yaml --chains 64 --num 64000 --out samples.csv"""


def parser() -> argparse.ArgumentParser:
    """The command's options."""
    lists = {"targets": TARGETS, "domains": DOMAINS, "kernels": KERNELS}
    wrapped = {
        k: textwrap.fill(", ".join(v), 100, initial_indent="  ", subsequent_indent="  ") for k, v in lists.items()
    }
    options = argparse.ArgumentParser(
        prog="mirrorgen sample",
        description="Draw from a log-density on a convex set by Markov chains, and report how well that went.",
        epilog=EPILOG.format(**wrapped),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = options.add_argument
    add(
        "--target", required=True, metavar="TARGET",
        help="a target of this package with its arguments, or module:function or file.py:function, a log-density that "
        "takes points (chains, dim) and returns values (chains,), built of torch operations",
    )  # fmt: skip
    add("--domain", help="the set, such as 'Box(-1, 1, dim=10)', a JSON specification or a YAML or JSON file with one")
    add("--num", type=int, required=True, help="number of draws over all chains, rounded up to a multiple of --chains")
    add("--out", type=Path, required=True, help="file to write: .nc (ArviZ), .safetensors, .npy or .csv")
    add("--kernel", default="auto", help="sampler (default: Hamiltonian Monte Carlo in the dual)")
    add("--chains", type=int, help="number of chains (default: 4 to 256, with at least 100 draws each)")
    add("--initial", type=Path, help="starting points, one per chain, a .npy or .csv file (default: around the centre)")
    add("--warmup", type=int, default=400, help="steps that tune the sampler (default: %(default)s)")
    add("--thin", type=int, default=1, help="steps per draw (default: %(default)s)")
    add("--seed", type=int, default=0, help="seed of starts and noise (default: %(default)s)")
    add("--dtype", choices=["float32", "float64"], default="float32", help="precision (default: %(default)s)")
    add("--device", default="cpu", help="cpu, cuda, cuda:1, ... (default: %(default)s)")
    add("--quiet", action="store_true", help="show no progress and no summary")
    return options


def run(args: Sequence[str]) -> Chain:
    """Carry out the command and return the chain.

    Raises:
        DomainError: If an option is out of range, or target, domain or kernel cannot be made.
        MissingExtraError: If a ``.nc`` file is asked for and ArviZ is not installed.
    """
    # "--target --help" asks about this form of the command.
    asked = [a for a in args if a in ("-h", "--help")]
    options = parser().parse_args(asked or args)
    _check(options)
    log_density, domain = make(options.target, options.domain)
    chain = sample(
        log_density,
        domain.to(options.device),
        options.num,
        kernel=options.kernel,
        num_chains=options.chains,
        initial=_starts(options, domain),
        num_warmup=options.warmup,
        thin=options.thin,
        dtype=getattr(torch, options.dtype),
        device=options.device,
        generator=torch.Generator(options.device).manual_seed(options.seed),
        progress=not options.quiet,
        warn=False,
    )
    _write(options.out, chain)
    if not options.quiet:
        print(chain.summary())
    for sentence in chain.diagnose():
        print(f"warning: {sentence}", file=sys.stderr)
    print(f"{options.out}: {chain.num_chains} chains of {chain.num_draws} draws")
    return chain


def _check(options: argparse.Namespace) -> None:
    if options.num < 1 or options.thin < 1 or options.warmup < 0 or (options.chains is not None and options.chains < 1):
        raise DomainError("--num, --chains and --thin must be positive and --warmup not negative")
    if not 0 <= options.seed < 2**63:
        raise DomainError(f"--seed must lie in [0, 2^63), got {options.seed}")
    if options.kernel != "auto" and options.kernel not in KERNELS:
        raise DomainError(f"--kernel {options.kernel!r} is unknown; choose auto or one of {', '.join(KERNELS)}")
    if options.out.suffix in SUFFIXES:
        check_suffix(options.out)
    else:
        writer(options.out, ".nc")
    check_writable(options.out)
    check_device(options.device)


def _starts(options: argparse.Namespace, domain: Domain) -> Tensor | None:
    if options.initial is None:
        return None
    try:
        points = np.load(options.initial) if options.initial.suffix == ".npy" else _table(options.initial)
    except (OSError, ValueError) as error:
        raise DomainError(f"--initial {options.initial} cannot be read: {error}") from error
    if points.ndim != 2 or points.shape[1] != domain.dim:
        raise DomainError(f"--initial needs one row of {domain.dim} numbers per chain, got shape {points.shape}")
    if options.chains not in (None, len(points)):
        raise DomainError(f"--initial holds {len(points)} points for --chains {options.chains}; leave --chains out")
    return torch.from_numpy(points).to(device=options.device, dtype=getattr(torch, options.dtype))


def _table(path: Path) -> np.ndarray:
    # A first row of names, such as this command writes, is no point.
    with path.open(encoding="utf-8") as file:
        header = not file.readline().strip()[:1].lstrip("+-.").isdigit()
    return np.loadtxt(path, delimiter=",", skiprows=int(header), ndmin=2)


def _write(out: Path, chain: Chain) -> None:
    if out.suffix in SUFFIXES:
        chain.save(out)
    else:
        write_points(out, chain.flatten().cpu())
