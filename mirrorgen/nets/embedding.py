"""Embeddings of time and of conditions."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from mirrorgen.errors import DomainError, ShapeError
from mirrorgen.numerics import eager_values

__all__ = ["ConditionEmbedding", "CosineFeatures", "TimeEmbedding"]


class TimeEmbedding(nn.Module):
    """Sinusoidal features ``[cos(2 pi w_k t), sin(2 pi w_k t)]`` with geometric frequencies ``w_k``.

    Computed in float32 or better whatever the precision of the network: a phase in bfloat16 would keep
    two digits. Source: Vaswani et al., "Attention Is All You Need" (2017).

    Args:
        size: Number of features, even.
        min_frequency: Lowest frequency in cycles per unit of time; below 1/2 the features tell the two
            ends of the unit interval apart.
        max_frequency: Highest frequency in cycles per unit of time.
    """

    frequencies: Tensor

    def __init__(self, size: int, min_frequency: float = 0.25, max_frequency: float = 16.0) -> None:
        super().__init__()
        if size < 2 or size % 2:
            raise ShapeError(f"a time embedding has an even number of features, at least 2; got size={size}")
        if not 0 < min_frequency <= max_frequency:
            raise DomainError(f"need 0 < min_frequency <= max_frequency; got {min_frequency}, {max_frequency}")
        self.size, self.min_frequency, self.max_frequency = size, min_frequency, max_frequency
        exponents = torch.linspace(math.log(min_frequency), math.log(max_frequency), size // 2)
        self.register_buffer("frequencies", 2 * math.pi * exponents.exp(), persistent=False)

    def forward(self, t: Tensor) -> Tensor:
        """Embed times of shape ``(*)`` as ``(*, size)``, in float32 or the wider dtype of ``t``."""
        precise = t.to(torch.promote_types(t.dtype, torch.float32))
        phase = precise[..., None] * self.frequencies.to(precise.dtype)
        return torch.cat([phase.cos(), phase.sin()], dim=-1)


class CosineFeatures(nn.Module):
    """``cos(k pi (x + 1) / 2)``, ``k = 1 .. count``, of every coordinate: the waves of ``[-1, 1]`` with flat ends.

    A network on them is even about both ends, as densities of reflected motions and their logarithms are, and sees
    finer structure than one on ``x``. With ``count = 0`` the coordinates themselves.

    With ``damping`` waves are weighted by ``exp(-(k pi s / 2)^2 / 2)``, ``s = s_0^(1-t) s_1^t``, as noise of deviation
    ``s`` damps them. On undamped waves a network has to learn to leave the short ones alone where ``s`` is large; what
    it fails to learn is small in a score's loss but rough, and divergences of the score, of which densities are
    integrals, suffer.

    Args:
        count: Waves per coordinate.
        damping: Deviations ``(s_0, s_1)`` at times 0 and 1 in units of ``x``: those of a geometric schedule of noise,
            divided by half the width of the domain; None for no weights.

    Raises:
        ShapeError: If ``count`` is negative.
        DomainError: If a deviation is not positive, or waves to damp are missing.
    """

    def __init__(self, count: int, damping: Sequence[float] | None = None) -> None:
        super().__init__()
        if count < 0:
            raise ShapeError(f"the number of cosine features is at least 0; got {count}")
        if damping is not None and (count == 0 or len(damping) != 2 or not min(damping) > 0):
            raise DomainError(f"damping needs cosines and two positive deviations, got {count} and {damping}")
        self.count, self.damping = count, damping

    def size(self, dim: int) -> int:
        """Number of features of ``dim`` coordinates."""
        return dim * max(self.count, 1)

    def forward(self, x: Tensor, t: Tensor | None = None) -> Tensor:
        """Features ``(*, size(dim))`` of points ``(*, dim)`` at times ``(*)``, computed in float32 or better."""
        if self.count == 0:
            return x
        waves = torch.arange(1, self.count + 1, dtype=torch.float32, device=x.device)
        wide = x.to(torch.promote_types(x.dtype, torch.float32))
        phase = (0.5 * math.pi) * (wide + 1).unsqueeze(-1)
        cosines = torch.cos(phase * waves.to(phase.dtype))
        if self.damping is not None and t is not None:
            first, last = (math.log(s) for s in self.damping)
            spread = torch.exp(first + (last - first) * t.to(wide.dtype))[..., None, None]
            cosines = cosines * torch.exp(-0.5 * (0.5 * math.pi * waves * spread).square())
        return cosines.flatten(-2).to(x.dtype)


class ConditionEmbedding(nn.Module):
    """Embeds a class label or a float vector; a missing condition has its own learned row.

    Labels use a table of ``num_classes + 1`` rows whose last one, index ``num_classes``, is the null class of
    classifier-free guidance (Ho and Salimans, "Classifier-Free Diffusion Guidance", 2022). Vectors use a
    linear layer; a row that contains NaN counts as missing and gets a learned null vector.

    Args:
        width: Size of the embedding.
        num_classes: Number of classes; 0 if the condition is no label.
        condition_dim: Length of a condition vector; 0 if the condition is no vector.
    """

    def __init__(self, width: int, num_classes: int = 0, condition_dim: int = 0) -> None:
        super().__init__()
        if num_classes < 0 or condition_dim < 0 or (num_classes and condition_dim):
            raise DomainError(
                "a network is conditioned on labels (num_classes > 0) or on vectors (condition_dim > 0), not "
                f"on both; got num_classes={num_classes}, condition_dim={condition_dim}"
            )
        self.width, self.num_classes, self.condition_dim = width, num_classes, condition_dim
        if num_classes:
            self.table = nn.Embedding(num_classes + 1, width)
            nn.init.normal_(self.table.weight, std=0.1)
        elif condition_dim:
            self.linear = nn.Linear(condition_dim, width)
            self.null = nn.Parameter(torch.zeros(width))

    def forward(self, condition: Tensor | None, batch: torch.Size) -> Tensor | None:
        """Embed ``condition`` for points of batch shape ``batch``; None if the network takes no condition.

        Args:
            condition: None for the null class, labels ``(*batch)``, or vectors ``(*batch, condition_dim)``.
                One label ``()`` or one vector ``(condition_dim,)`` serves the whole batch.
            batch: Shape of the points without their last axis.

        Returns:
            Embeddings that broadcast to ``(*batch, width)``.

        Raises:
            ShapeError: If shape or dtype do not fit, or the network was built without conditioning.
            DomainError: If a label lies outside ``0 .. num_classes`` (checked on the CPU only).
        """
        if self.num_classes:
            return self.table(self._labels(condition, batch))
        if self.condition_dim:
            return self._vectors(condition, batch)
        if condition is not None:
            raise ShapeError(
                "this network takes no condition; build it with num_classes=... for labels or "
                "condition_dim=... for vectors"
            )
        return None

    def _labels(self, condition: Tensor | None, batch: torch.Size) -> Tensor:
        if condition is None:
            return torch.full((), self.num_classes, dtype=torch.long, device=self.table.weight.device)
        if condition.is_floating_point() or condition.shape not in ((), batch):
            raise ShapeError(
                f"labels are integers of shape {tuple(batch)}; got {condition.dtype} of shape {tuple(condition.shape)}"
            )
        if condition.device.type == "cpu" and eager_values(condition) and condition.numel():
            low, high = int(condition.min()), int(condition.max())
            if low < 0 or high > self.num_classes:
                raise DomainError(
                    f"labels lie in 0..{self.num_classes - 1}, and {self.num_classes} is the null class; got "
                    f"values from {low} to {high}"
                )
        return condition.long()

    def _vectors(self, condition: Tensor | None, batch: torch.Size) -> Tensor:
        if condition is None:
            return self.null
        if condition.shape not in ((self.condition_dim,), (*batch, self.condition_dim)):
            raise ShapeError(
                f"condition vectors have shape {(*batch, self.condition_dim)}; got {tuple(condition.shape)}"
            )
        condition = condition.to(self.linear.weight.dtype)
        missing = condition.isnan().any(-1, keepdim=True)
        # NaN must not enter the product, where its gradient would reach the weights.
        known = self.linear(torch.where(missing, torch.zeros_like(condition), condition))
        return torch.where(missing, self.null.to(known.dtype), known)
