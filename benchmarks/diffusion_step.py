"""What reflection costs when a network for images is trained: heat kernel and loss against the whole step."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from benchmarks.records import Row
from benchmarks.timing import interleaved
from mirrorgen import domains
from mirrorgen.diffusion import Denoising, ReflectedDiffusion, default_kernel
from mirrorgen.nets import Net, UNet

TITLE = "Reflected diffusion: heat kernel and loss against a U-Net"
NOTES = (
    "ratio: share of one training step (loss, gradients, clipping, Adam) of a U-Net of 10,008,195 parameters, in turn",
    "kernel and loss: the same step with a network of one parameter, so everything but the U-Net",
    "heat kernel: noisy images and their targets, a part of it",
    "error: largest difference of the targets sigma * score from float64, over the larger of 1 and their size",
    "feasible: share of noisy images strictly inside",
    "asked for: kernel and loss at most 0.03",
)


class _Scale(Net):
    """``x`` times one number."""

    def __init__(self, dim: int) -> None:
        super().__init__(dim, 0, 0, 1)
        self.factor = nn.Parameter(torch.zeros(()))

    def _forward(self, x: Tensor, t: Tensor, embedding: Tensor | None) -> Tensor:
        return self.factor * x


def training_step(net: Net, x: Tensor) -> Callable[[], None]:
    """Loss, gradients and an Adam update on images ``x (n, dim)``."""
    model = ReflectedDiffusion(domains.Box(0.0, 1.0, dim=x.shape[1]), net)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-4)
    generator = torch.Generator().manual_seed(3)

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        model.loss(x, generator=generator).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()

    return step


def target_error(objective: Denoising, noisy: Tensor, x: Tensor, sigma: Tensor, target: Tensor) -> float:
    """Relative difference of float32 targets from the same formula in float64."""
    exact = sigma.double().unsqueeze(-1) * objective.kernel.score(noisy.double(), x.double(), sigma.double())
    return float(((target - exact).abs() / exact.abs().clamp_min(1.0)).max())


def run(quick: bool = False) -> list[Row]:
    """Images of 3x32x32 in batches of 16, float32."""
    torch.manual_seed(0)
    batch, size = (2, 8) if quick else (16, 32)
    net = UNet(3, size, size, **({"widths": (32, 32)} if quick else {}))
    box = domains.Box(0.0, 1.0, dim=net.dim)
    generator = torch.Generator().manual_seed(4)
    x = box.sample_uniform(batch, generator=generator, dtype=torch.float32)
    kernel = default_kernel(box)
    assert kernel is not None
    objective = Denoising(kernel)
    sigma = 0.01 * 150 ** torch.linspace(0, 1, batch)
    noisy, target = objective.pair(box, x, sigma, generator)
    error = target_error(objective, noisy, x, sigma, target)
    feasible = float(box.contains(noisy).double().mean())
    seconds = interleaved(
        {
            "training step": training_step(net, x),
            "kernel and loss": training_step(_Scale(net.dim), x),
            "heat kernel": lambda: objective.pair(box, x, sigma, generator),
        },
        1 if quick else 3,
        1 if quick else 3,
    )
    whole = seconds["training step"]
    contenders = zip(seconds.items(), ("UNet", "one parameter", "BoxHeatKernel"), strict=True)
    shape, words = f"{batch}x3x{size}x{size}", "share of one training step"
    return [
        Row("ReflectedDiffusion", operation, contender, "float32", shape, s, s / whole, error, feasible, words)
        for (operation, s), contender in contenders
    ]
