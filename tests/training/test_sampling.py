"""Sampling in two processes."""

import subprocess
import sys

import pytest
import torch
from lightning.fabric import Fabric

from mirrorgen import targets
from mirrorgen.training import sample_distributed

PROGRAM = """
import sys
import torch
from lightning.fabric import Fabric
from lightning.fabric.strategies import DDPStrategy
from mirrorgen import targets
from mirrorgen.training import sample_distributed

torch.set_num_threads(1)
fabric = Fabric(accelerator="cpu", devices=2, strategy=DDPStrategy(process_group_backend="gloo"))
fabric.launch()
target = targets.Dirichlet([1.0, 2.0, 3.0])
chain = sample_distributed(fabric, target, target.domain, 4000, num_chains=20, num_warmup=100, warn=False)
if fabric.is_global_zero:
    torch.save({"x": chain.positions, "acceptance": chain.stats["acceptance"]}, sys.argv[1])
"""


@pytest.mark.slow
def test_two_processes_share_the_chains(tmp_path):
    (tmp_path / "program.py").write_text(PROGRAM)
    command = [sys.executable, str(tmp_path / "program.py"), str(tmp_path / "out.pt")]
    subprocess.run(command, check=True, timeout=300, capture_output=True)
    saved = torch.load(tmp_path / "out.pt")
    x, target = saved["x"], targets.Dirichlet([1.0, 2.0, 3.0])
    assert x.shape == (200, 20, 3)
    assert saved["acceptance"].shape == (200, 20)
    assert target.domain.contains(x).all()
    # The processes draw different noise, and both draw from the target.
    assert not torch.isclose(x[:, :10], x[:, 10:]).any(-1).any()
    for half in (x[:, :10], x[:, 10:]):
        means = half.double().mean(0)
        z = (means.mean(0) - target.mean) / (means.std(0) / 10**0.5)
        assert z.abs().max() < 5


def test_one_process_is_plain_sampling():
    fabric = Fabric(accelerator="cpu", devices=1)
    fabric.launch()
    target = targets.Dirichlet([1.0, 2.0, 3.0])
    draws = [
        sample_distributed(fabric, target, target.domain, 40, num_chains=4, num_warmup=10, seed=seed, warn=False)
        for seed in (1, 1, 2)
    ]
    assert torch.equal(draws[0].positions, draws[1].positions)
    assert not torch.equal(draws[0].positions, draws[2].positions)
