"""A character-level language model tuned by the losses on preferences, with Lightning; exact optima beside.

    python examples/policy/preference_language.py [--quick] [--steps 150] [--objectives opmd,rebel,dno] [--out DIR]

The policy answers one letter with twelve; the score is the share of that letter, the reference is uniform on eight
letters. Every answer with ``k`` right letters is as likely as the others, so that optima are known: of the rewards,
``ref exp(score / beta)`` draws each letter by itself; of preferences, the equilibrium of a game of 13 classes.

``preference_language.csv``: mean score, win rate over the reference and KL to it of 4000 fresh answers.
"""

import math
import time

import torch
from common import options, show, write_csv
from lightning.pytorch import Trainer, seed_everything
from torch.utils.data import DataLoader, TensorDataset

from mirrorgen.policy.preference import CharacterPolicy, PreferenceGame, PreferenceTuning
from mirrorgen.training import PreferenceTask


def optimum(tuning: PreferenceTuning) -> float:
    """The exact mean score that an objective leads to."""
    size, length, beta = len(tuning.policy.alphabet), tuning.policy.length, tuning.beta
    if tuning.objective in ("ipo", "inpo"):
        right = torch.arange(length + 1, dtype=torch.float64)
        chances = torch.distributions.Binomial(length, torch.tensor(1 / size, dtype=torch.float64)).log_prob(right)
        share = right / length
        preferences = torch.sigmoid(tuning.sharpness * (share.unsqueeze(-1) - share))
        star = PreferenceGame(preferences, chances.log_softmax(-1), beta).nash()
        return float((star.exp() * share).sum())
    odds = math.exp(1 / (length * beta))
    return odds / (odds + size - 1)


def tune(objective: str, steps: int, draws: int) -> dict[str, object]:
    """Train by one objective; its row of the table."""
    seed_everything(0, verbose=False)
    tuning = PreferenceTuning(CharacterPolicy("abcdefgh", length=12), objective, step_size=15.0)
    prompts = tuning.policy.encode("abcdefgh")
    batches, fresh = (DataLoader(TensorDataset(prompts.repeat(n, 1)), 32, shuffle=False) for n in (4 * steps, draws))
    begin = time.process_time()
    trainer = Trainer(
        max_steps=steps, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, gradient_clip_val=1.0, limit_val_batches=0,
    )  # fmt: skip
    trainer.fit(PreferenceTask(tuning, lr=3e-3), batches, fresh)
    seconds = time.process_time() - begin
    found = tuning.evaluate(prompts.repeat(draws, 1), generator=torch.Generator().manual_seed(1))
    return {"objective": objective, "steps": steps, **found, "exact score": optimum(tuning), "cpu seconds": seconds}


def main() -> None:
    args = options(__doc__, steps=150, objectives="opmd,rebel,dno")
    steps, draws = (2, 10) if args.quick else (args.steps, 500)
    rows = [tune(objective, steps, draws) for objective in args.objectives.split(",")]
    write_csv(args.out / "preference_language.csv", ["32 prompts, 8 answers each, per step; beta 0.03"], rows)
    show(rows)


if __name__ == "__main__":
    main()
