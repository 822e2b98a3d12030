"""Stacks of networks against loops over networks, and against the recursion that they truncate."""

import pytest
import torch
from torch import nn

from mirrorgen.errors import DomainError, ShapeError
from mirrorgen.policy.agents.stacked_networks import QStack, StackedMLP

F64 = torch.float64


def networks(count, sizes, seed):
    torch.manual_seed(seed)
    return StackedMLP(count, sizes).double()


@pytest.mark.parametrize("sizes", [[4, 8, 3], [4, 8, 8, 3]])
def test_a_batched_stack_is_a_loop_over_networks(sizes):
    many, x = networks(5, sizes, 0), torch.randn(7, 4, dtype=F64)
    rows = []
    for n in range(5):
        layers = []
        for weight, bias in zip(many.weights, many.biases, strict=True):
            linear = nn.Linear(*weight.shape[1:]).double()
            linear.load_state_dict({"weight": weight[n].T, "bias": bias[n, 0]})
            layers += [linear, nn.ReLU()]
        rows.append(nn.Sequential(*layers[:-1])(x))
    torch.testing.assert_close(many(x), torch.stack(rows))
    assert len({float(w[0, 0]) for w in many.weights[0].detach()}) == 5


@pytest.mark.parametrize("memory", [1, 4, 12])
def test_logits_are_the_recursion_and_its_truncation(memory):
    """Constant weights: the geometric sum of the last values; equal to the endless recursion while none is missing."""
    sizes, x, alpha, beta = [4, 8, 8, 3], torch.randn(300, 4, dtype=F64), 0.4, 0.7
    stack, exact, values = QStack(memory, 2, sizes).double(), torch.zeros(300, 3, dtype=F64), []
    assert torch.equal(stack(x), exact)
    for k in range(1, 11):
        many = networks(2, sizes, k)
        stack.push(many, alpha, beta)
        with torch.no_grad():
            for p in many.parameters():
                values.append(many(x).mean(0)) if p is many.weights[0] else None
                p.zero_()  # What is on the stack is a copy.
        exact = beta * exact + alpha * values[-1]
        truncated = sum(beta**i * v for i, v in enumerate(values[::-1][:memory]))
        torch.testing.assert_close(stack(x), alpha / (1 - beta**memory) * truncated)
        assert len(stack) == min(k, memory)
        if k <= memory:
            torch.testing.assert_close((1 - beta**memory) * stack(x), exact)
        else:
            assert not torch.allclose((1 - beta**memory) * stack(x), exact, rtol=1e-3)
    if memory <= 10:
        # All the weight of the endless sum, 1 / tau, on the last values.
        assert float(stack.coefficients.sum()) == pytest.approx(alpha / (1 - beta))


def test_a_long_memory_is_the_recursion_itself():
    sizes, x, exact = [4, 8, 3], torch.randn(9, 4, dtype=F64), torch.zeros(9, 3, dtype=F64)
    stack = QStack(100, 1, sizes).double()
    for k in range(20):
        many, alpha, beta = networks(1, sizes, k), 0.5 + 0.1 * k, 0.5 + 0.01 * k
        stack.push(many, alpha, beta)
        exact = beta * exact + alpha * many(x).mean(0).detach()
    torch.testing.assert_close(stack(x), exact, rtol=1e-12, atol=1e-12)


def test_changing_weights_decay_each_term_by_later_pushes():
    sizes, x, memory = [4, 8, 3], torch.randn(9, 4, dtype=F64), 3
    stack, values, tau = QStack(memory, 1, sizes).double(), [], 0.5
    kappas = [4.0, 1.0, 3.0, 2.0, 5.0]
    for k, kappa in enumerate(kappas):
        many = networks(1, sizes, k)
        values.append(many(x)[0].detach())
        stack.push(many, 1 / (kappa + tau), kappa / (kappa + tau))
    expected, decay = torch.zeros(9, 3, dtype=F64), 1.0
    for kappa, value in list(zip(kappas, values, strict=True))[: -memory - 1 : -1]:
        expected, decay = expected + decay * value / (kappa + tau), decay * kappa / (kappa + tau)
    torch.testing.assert_close(stack(x), expected / (1 - decay))
    assert float(stack.coefficients.sum()) == pytest.approx(1 / tau)


@pytest.mark.parametrize("memory", [1, 3])
def test_logits_that_follow_pushes_are_those_of_the_whole_stack(memory):
    sizes, x = [4, 8, 3], torch.randn(300, 4, dtype=F64)
    stack = QStack(memory, 2, sizes).double()
    logits = stack(x)
    for k in range(8):
        kappa, tau = 2.0 + k % 3, 0.5 + 0.1 * k
        logits = stack.follow(x, logits, networks(2, sizes, k), 1 / (kappa + tau), kappa / (kappa + tau))
        torch.testing.assert_close(logits, stack(x), rtol=1e-12, atol=1e-12)
    assert int(stack.pushes) == 8


def test_without_a_proximal_term_the_newest_values_decide():
    sizes, x = [4, 8, 3], torch.randn(9, 4, dtype=F64)
    stack = QStack(4, 1, sizes).double()
    for k in range(6):
        many = networks(1, sizes, k)
        stack.push(many, 2.0, 0.0)
        torch.testing.assert_close(stack(x), 2 * many(x)[0].detach())


def test_stacks_refuse_what_does_not_fit():
    stack = QStack(2, 1, [4, 8, 3])
    for step, decay in ((0.0, 0.5), (1.0, 1.0), (1.0, -0.1)):
        with pytest.raises(DomainError, match="step must be positive"):
            stack.push(StackedMLP(1, [4, 8, 3]), step, decay)
    with pytest.raises(ShapeError, match="layer 0"):
        stack.push(StackedMLP(1, [5, 8, 3]), 1.0, 0.5)
    with pytest.raises(DomainError, match="memory"):
        QStack(0, 1, [4, 8, 3])
    assert len(stack) == 0
