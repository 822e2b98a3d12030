"""The language model over characters, scores of answers, and tuning by every loss."""

import math

import pytest
import torch

from mirrorgen.errors import DomainError, ShapeError
from mirrorgen.policy.preference.language import SCORES, CharacterPolicy, sample_answers, sequence_log_prob
from mirrorgen.policy.preference.tuning import OBJECTIVES, PreferenceTuning
from mirrorgen.spec import from_spec, to_spec


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def perturbed(**options) -> CharacterPolicy:
    torch.manual_seed(0)
    policy = CharacterPolicy(**options)
    torch.nn.init.normal_(policy.head.weight, std=0.5)
    return policy


def test_log_probabilities_of_all_answers_sum_to_one():
    policy = perturbed(alphabet="abc", length=3, width=8)
    answers = torch.cartesian_prod(*[torch.arange(3)] * 3)
    prompts = torch.tensor([[1, 2]]).expand(27, -1)
    log_p = policy.log_prob(prompts, answers).detach()
    assert float(log_p.exp().sum()) == pytest.approx(1, abs=1e-5)
    drawn = sample_answers(policy, prompts[:1].expand(20_000, -1), generator=generator())
    counts = torch.bincount(9 * drawn[:, 0] + 3 * drawn[:, 1] + drawn[:, 2], minlength=27) / 20_000
    assert float((counts - log_p.exp()).abs().max()) < 0.015


def test_mixture_with_the_whole_reference_is_the_reference():
    policy, reference = perturbed(length=4, width=8), CharacterPolicy(length=4, width=8)
    prompts = torch.zeros(50, 1, dtype=torch.long)
    mixed = sample_answers(policy, prompts, reference=reference, weight=1.0, generator=generator())
    assert torch.equal(mixed, sample_answers(reference, prompts, generator=generator()))


def test_sequence_log_prob_sums_over_the_mask():
    logits, tokens = torch.randn(2, 5, 4, generator=generator()), torch.randint(4, (2, 5), generator=generator())
    mask = torch.tensor([[1, 1, 0, 0, 0], [1, 1, 1, 1, 1]])
    full = sequence_log_prob(logits, tokens)
    part = sequence_log_prob(logits, tokens, mask)
    assert torch.allclose(part[1], full[1])
    assert torch.allclose(part[0], sequence_log_prob(logits[0, :2], tokens[0, :2]))
    with pytest.raises(ShapeError, match="one axis more"):
        sequence_log_prob(logits, tokens[:, :4])


def test_lightning_trains_and_validates_by_fresh_answers(tmp_path):
    from lightning.pytorch import Trainer
    from torch.utils.data import DataLoader, TensorDataset

    from mirrorgen.training import PreferenceTask

    tuning = PreferenceTuning(CharacterPolicy("abc", length=4, width=8), "rebel")
    prompts = DataLoader(TensorDataset(tuning.policy.encode("abc").repeat(16, 1)), 24)
    before = [p.clone() for p in tuning.policy.parameters()]
    trainer = Trainer(
        max_steps=2, accelerator="cpu", logger=False, enable_progress_bar=False, enable_model_summary=False,
        enable_checkpointing=False, default_root_dir=tmp_path,
    )  # fmt: skip
    task = PreferenceTask(tuning, lr=1e-2)
    trainer.fit(task, prompts, prompts)
    assert any(not torch.equal(a, b) for a, b in zip(before, tuning.policy.parameters(), strict=True))
    assert {"val/score", "val/win_rate", "val/kl", "train/loss"} <= set(trainer.callback_metrics)
    score = float(trainer.callback_metrics["val/score"])
    assert 0 < score < 1
    assert float(trainer.validate(task, prompts, verbose=False)[0]["val/score"]) == score


def test_scores():
    policy = CharacterPolicy(alphabet="()a", length=6)
    answers = policy.encode(["(())a)", "))((()", "aaaaaa", "((((()", "()()()"])
    prompts = policy.encode(["a"] * 5)
    brackets = SCORES["brackets"](prompts, answers, policy.alphabet)
    assert torch.allclose(brackets, torch.tensor([4, 2, 0, 2, 6]) / 6)
    letters = SCORES["letter"](prompts, answers, policy.alphabet)
    assert torch.allclose(letters, torch.tensor([1, 0, 6, 0, 0]) / 6)
    assert policy.decode(answers)[0] == "(())a)"
    with pytest.raises(DomainError, match="brackets"):
        SCORES["brackets"](prompts, answers, "ab")
    with pytest.raises(DomainError, match="characters in"):
        policy.encode(["z"])
    with pytest.raises(DomainError, match="different"):
        CharacterPolicy(alphabet="aa")


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_every_loss_trains_the_policy_and_leaves_the_reference(objective):
    torch.manual_seed(0)
    model = PreferenceTuning(CharacterPolicy(length=4, width=8), objective, refresh=2, beta=0.1, labels=True)
    prompts = model.policy.encode("abcdefgh")
    frozen = {k: v.clone() for k, v in model.reference.state_dict().items()}
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    for k in range(3):
        loss = model.loss(prompts, generator=generator(k))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert float(model.evaluate(prompts, generator=generator())["kl"]) != 0
    assert all(torch.equal(v, frozen[k]) for k, v in model.reference.state_dict().items())
    assert all(p.grad is None for net in (model.old, model.reference) for p in net.parameters())
    again = from_spec(to_spec(model))
    again.load_state_dict(model.state_dict())
    assert to_spec(again) == to_spec(model)


def test_tuning_approaches_the_exact_optimum():
    # ref exp(share / beta) from the uniform reference draws every character by itself: e^(1/(n beta)) to 1.
    torch.manual_seed(0)
    model = PreferenceTuning(CharacterPolicy("abc", length=3, width=16), "opmd", beta=0.3)
    optimizer = torch.optim.Adam(model.policy.parameters(), 2e-2)
    prompts = model.policy.encode("abc" * 16)
    for k in range(40):
        loss = model.loss(prompts, generator=generator(k))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    odds = math.exp(1 / (3 * 0.3))
    assert model.evaluate(prompts.repeat(40, 1), generator=generator())["score"] == pytest.approx(
        odds / (odds + 2), abs=0.03
    )


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"objective": "ppo"}, "objective must be one of rebel"),
        ({"score": "length"}, "score must be one of"),
        ({"anchor": "new"}, "anchor"),
        ({"group_size": 3}, "even"),
        ({"beta": 0.0}, "beta positive"),
    ],
)
def test_bad_settings(options, match):
    with pytest.raises(DomainError, match=match):
        PreferenceTuning(CharacterPolicy(), **options)
