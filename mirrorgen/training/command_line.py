"""The LightningCLI of this package: forced callbacks, run folders, helpful errors."""

import difflib
import importlib.util
import logging
import re
import sys
import warnings
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import torch
from lightning.pytorch import Callback, LightningDataModule, LightningModule, Trainer
from lightning.pytorch.callbacks import ProgressBar
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI
from lightning.pytorch.loggers import CSVLogger, Logger, TensorBoardLogger

from mirrorgen.diffusion import Objective, PushforwardDiffusion, ScoreModel
from mirrorgen.diffusion import Schedule as NoiseSchedule
from mirrorgen.flows import Coupling, DualTransform, FlowModel, Prior
from mirrorgen.geometry.domains import Domain
from mirrorgen.geometry.mirror_maps import MirrorMap
from mirrorgen.nets import Net
from mirrorgen.training.callbacks import Checkpoint, Feasibility, Progress
from mirrorgen.training.ema import EMA

__all__ = ["CommandLine", "Parser", "suggest"]

NAMED = (
    Domain, MirrorMap, Net, Prior, Coupling, DualTransform, FlowModel, NoiseSchedule, Objective, ScoreModel,
    PushforwardDiffusion, LightningModule, LightningDataModule,
)  # fmt: skip


def suggest(name: str) -> list[str]:
    """Names of this package's classes that resemble a misspelled one, nearest first."""
    known: set[str] = set()
    pending: list[type] = [*NAMED, Callback]
    while pending:
        cls = pending.pop()
        pending += cls.__subclasses__()
        if cls.__module__.startswith("mirrorgen.") and not cls.__name__.startswith("_"):
            known.add(cls.__name__)
    lowered = {candidate.lower(): candidate for candidate in sorted(known)}
    close = difflib.get_close_matches(name.rpartition(".")[2].lower(), lowered, n=3, cutoff=0.5)
    return [lowered[match] for match in close]


class Parser(LightningArgumentParser):
    """Reports what is wrong and where, without the usage of a hundred options, and knows near misses."""

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        # Parsers of nested classes hand their errors up; only the outermost one reports.
        if not self.exit_on_error:
            super().error(message, ex)
        print(f"{self.prog.replace(' [options]', '')}: error: {_distilled(message)}", file=sys.stderr)
        raise SystemExit(2)


def _distilled(message: str) -> str:
    """One line ``key.of.the.value: what is wrong`` from the parser's account of everything it tried."""
    keys = ".".join(dict.fromkeys(re.findall(r'Parser key "([^"]+)"', message)))
    details = [line.strip(" -") for line in message.splitlines() if line.strip() and not _NOISE.match(line)]
    unknown = re.search(r"Expected a dot import path string: (\S+)", message)
    if unknown:
        close = suggest(unknown[1])
        hint = f"did you mean {' or '.join(close)}?" if close else "give its full import path"
        details = [f"there is no class {unknown[1]!r}; {hint}"]
    reason = "; ".join(dict.fromkeys(details)) or message
    return f"{keys}: {reason}" if keys else reason


_NOISE = re.compile(
    r"[\s-]*(Parser key|Problem with given class_path|Does not validate against|Subtypes:|Errors:"
    r"|Expected a <class 'NoneType'>|Given value)"
)


class CommandLine(LightningCLI):
    """``mirrorgen fit|validate|test|predict``.

    Every run has the averaging, checkpointing and feasibility callbacks, tunable as ``--ema.decay``,
    ``--checkpoint.every_n_train_steps`` and ``--feasibility.num``, and writes to ``<run_dir>/<name>/version_<k>``:
    ``config.yaml``, ``metrics.csv``, ``checkpoints/last.ckpt``, and TensorBoard's events where it is installed.
    """

    def __init__(self, args: list[str]) -> None:
        logging.getLogger("lightning.pytorch.utilities.rank_zero").addFilter(_no_advertising)
        # Lightning calls a torch function under its old name; nothing a user could act on.
        warnings.filterwarnings("ignore", "`isinstance.treespec, LeafSpec.` is deprecated", FutureWarning)
        super().__init__(
            LightningModule,
            LightningDataModule,
            subclass_mode_model=True,
            subclass_mode_data=True,
            parser_class=Parser,
            trainer_defaults={"max_epochs": -1, "log_every_n_steps": 10},
            seed_everything_default=0,
            auto_configure_optimizers=False,
            # Tasks save specifications themselves, the same from here as from Python.
            load_from_checkpoint_support=False,
            save_config_kwargs={"overwrite": True},
            parser_kwargs={
                "prog": "mirrorgen",
                "description": "Train and evaluate generative models on constrained domains.",
                "dump_header": None,
            },
            args=args,
        )

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        parser.add_argument("--name", type=str | None, default=None, help="name of the run (default: the config's)")
        parser.add_argument("--run_dir", type=str, default="runs", help="folder that holds the runs")
        parser.add_lightning_class_args(EMA, "ema")
        parser.add_lightning_class_args(Checkpoint, "checkpoint")
        parser.add_lightning_class_args(Feasibility, "feasibility")

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        # The inherited method warns whenever arguments come from Python in a process that has some of its own.
        self.config = parser.parse_args(args)

    def _parse_ckpt_path(self) -> None:
        """The configuration describes the model; a checkpoint brings weights only."""

    def before_instantiate_classes(self) -> None:
        # Checkpoints hold plain data, so nothing in one needs to be executed on loading.
        config = self.config[self.subcommand]
        if config.get("weights_only") is None:
            config["weights_only"] = True

    def predict(self, **kwargs: Any) -> None:
        """Write the log-densities of the test data to ``log_prob.npy`` in the run's folder; print their mean."""
        batches: Any = self.trainer.predict(**kwargs)
        log_prob = torch.cat(batches).double().cpu()
        shard = f"_{self.trainer.global_rank}" if self.trainer.world_size > 1 else ""
        path = Path(self.trainer.log_dir or ".") / f"log_prob{shard}.npy"
        path.parent.mkdir(parents=True, exist_ok=True)
        np.save(path, log_prob.numpy())
        print(f"{path}: {len(log_prob)} log-densities, mean {float(log_prob.mean()):.4f}")

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        config = self._get(self.config_init, "trainer")
        if config.get("logger") in (None, True):
            kwargs["logger"] = self._loggers()
        callbacks = config.get("callbacks") or []
        if config.get("enable_progress_bar") is not False and not any(isinstance(c, ProgressBar) for c in callbacks):
            kwargs["callbacks"] = [*callbacks, Progress()]
        return super().instantiate_trainer(**kwargs)

    def _loggers(self) -> list[Logger]:
        folder, name = self._get(self.config, "run_dir"), self._get(self.config, "name") or self._config_name()
        csv = CSVLogger(folder, name=name, flush_logs_every_n_steps=50)
        loggers: list[Logger] = [csv]
        if importlib.util.find_spec("tensorboard"):
            loggers.append(TensorBoardLogger(folder, name=name, version=f"version_{csv.version}"))
        return loggers

    def _config_name(self) -> str:
        files = self._get(self.config, "config") or []
        return Path(str(files[0])).stem if files else "run"


def _no_advertising(record: logging.LogRecord) -> bool:
    return "Tip: For seamless" not in record.getMessage()
