"""A learned map in a configuration: trained along through the command line, restored from the checkpoint."""

from pathlib import Path

import torch
import yaml

import mirrorgen as mg
from mirrorgen.cli import main
from mirrorgen.geometry.mirror_maps import LearnedMirrorMap
from mirrorgen.nets import InputConvexMLP

CONFIG = Path(__file__).resolve().parents[2] / "configs" / "flow" / "toy2d.yaml"


def test_a_configuration_with_a_learned_map(tmp_path):
    config = yaml.safe_load(CONFIG.read_text())
    flow = config["model"]["init_args"]["flow"]["init_args"]
    net = {"class_path": "mirrorgen.nets.InputConvexMLP", "init_args": {"dim": 2, "hidden": [8], "scale": 5.0}}
    arguments = {"base": flow["mirror_map"], "convex": net}
    flow |= {"mirror_map": {"class_path": "LearnedMirrorMap", "init_args": arguments}, "map_weight": 0.1}
    config["trainer"] |= {"max_steps": 3, "callbacks": [], "accelerator": "cpu"}
    path = tmp_path / "learned.yaml"
    path.write_text(yaml.safe_dump(config))
    run = main(["fit", "--config", str(path), "--run_dir", str(tmp_path), "--name", "learned"])
    restored = mg.load(Path(run.trainer.log_dir) / "checkpoints" / "last.ckpt")
    assert isinstance(restored.mirror_map, LearnedMirrorMap)
    assert restored.map_weight == 0.1
    # The weights are trained ones, not those that the specification rebuilds.
    start = InputConvexMLP(2, [8], scale=5.0)
    pairs = zip(restored.mirror_map.convex.parameters(), start.parameters(), strict=True)
    assert max((a - b).abs().max().item() for a, b in pairs) > 1e-4
    draws = restored.sample(20, generator=torch.Generator().manual_seed(0))
    assert restored.domain.contains(draws).all()
