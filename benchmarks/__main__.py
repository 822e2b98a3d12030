"""Command line: ``python -m benchmarks [names] [--out DIR] [--threads 1] [--quick]``."""

import argparse
from importlib.util import find_spec
from pathlib import Path

import torch

from benchmarks import (
    agents,
    diffusion_step,
    flow,
    flow_peers,
    games,
    heat_kernel,
    mirror_maps,
    optim,
    samplers,
    stein,
    transforms,
    transport,
)
from benchmarks.records import FORMATS, print_table, write_csv
from benchmarks.samplers import cold

BENCHMARKS = {
    "mirror_maps": mirror_maps,
    "transforms": transforms,
    "flow": flow,
    "samplers": samplers,
    "samplers_cold": cold,
    "stein": stein,
    "diffusion_step": diffusion_step,
    "heat_kernel": heat_kernel,
    "agents": agents,
    "games": games,
    "transport": transport,
    "optim": optim,
    "flow_peers": flow_peers,
}


def main(arguments: list[str] | None = None) -> None:
    """Run the named benchmarks, print their tables and write one CSV file each."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Timings stored with their correctness.")
    parser.add_argument("names", nargs="*", metavar="name", help=f"any of {', '.join(BENCHMARKS)}; all if none")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results", help="folder of the CSV files")
    parser.add_argument("--threads", type=int, default=1, help="threads of torch (%(default)s)")
    parser.add_argument("--quick", action="store_true", help="tiny sizes: a check that everything runs")
    options = parser.parse_args(arguments)
    unknown = sorted(set(options.names) - set(BENCHMARKS))
    if unknown:
        parser.error(f"unknown benchmark {', '.join(unknown)}; choose from {', '.join(BENCHMARKS)}")
    torch.set_num_threads(options.threads)
    for name in options.names or BENCHMARKS:
        module = BENCHMARKS[name]
        missing = [p for p in getattr(module, "REQUIRES", ()) if find_spec(p) is None]
        if missing:
            print(f"\n{name}: left out, because {', '.join(missing)} is not installed")
            continue
        rows = module.run(quick=options.quick)
        formats = getattr(module, "FORMATS", FORMATS)
        print_table(module.TITLE, rows, formats)
        for note in module.NOTES:
            print(f"  {note}")
        flags = f"--threads {options.threads}{' --quick' if options.quick else ''}"
        command = f"python -m benchmarks {name} {flags}"
        write_csv(options.out / f"{name}.csv", command, module.NOTES, rows, formats)


if __name__ == "__main__":
    main()
