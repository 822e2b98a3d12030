"""A convolutional network for images: the U-Net of diffusers behind the contract of ``Net``."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from mirrorgen.errors import MissingExtraError, ShapeError
from mirrorgen.nets.base import Net
from mirrorgen.nets.embedding import CosineFeatures

__all__ = ["UNet"]


class UNet(Net):
    """``UNet2DModel`` of diffusers on images that are stored as vectors ``(*batch, channels * height * width)``.

    A vector holds channel after channel, each row by row. Time enters through random Fourier features, ``cos`` and
    ``sin`` of ``2 pi w t`` with ``w`` normal of deviation 16 (drawn once, saved with the weights); labels and vectors
    enter through the embedding that every ``Net`` has, added to that of the time. Class ``num_classes`` is the null
    class. The output layer starts at zero, so the untrained network is the zero field.

    Unconditional on three channels, the default widths make 10,008,195 parameters, whatever the image size, and
    ``widths=(32, 64)``, about what one core trains in minutes, 706,627.

    Args:
        channels: Channels of an image.
        height: Rows; a multiple of ``2 ** (len(widths) - 1)``.
        width: Columns; likewise.
        widths: Channels inside, one number per level; each level halves the resolution.
        layers: Residual blocks per level on the way down; one more on the way up.
        attention: Levels with self-attention, 0 the finest; the middle always has it.
        num_classes: Number of class labels; 0 for none.
        condition_dim: Length of a condition vector; 0 for none.
        dropout: Probability of dropping an activation within residual blocks.
        groups: Groups of the normalisations; must divide every width.
        head_width: Channels per attention head; must divide the widths of levels with attention.
        cosines: Number of cosine features per pixel in place of the pixel, see ``CosineFeatures``.

    Raises:
        MissingExtraError: If diffusers is not installed.
        ShapeError: If a number does not fit.

    Sources: Ronneberger, Fischer, Brox, "U-Net: Convolutional Networks for Biomedical Image Segmentation", 2015; Ho,
    Jain, Abbeel, "Denoising Diffusion Probabilistic Models", 2020; Fourier features: Song et al., "Score-Based
    Generative Modeling through Stochastic Differential Equations", 2021.
    """

    unet: Any

    def __init__(
        self,
        channels: int,
        height: int,
        width: int,
        widths: Sequence[int] = (96, 192, 192),
        layers: int = 1,
        attention: Sequence[int] = (1,),
        num_classes: int = 0,
        condition_dim: int = 0,
        dropout: float = 0.0,
        groups: int = 32,
        head_width: int = 32,
        cosines: int = 0,
    ) -> None:
        _check(channels, height, width, widths, layers, attention, groups, head_width)
        # diffusers makes the embedding of the time, to which this one is added, four times as wide as the first level.
        super().__init__(channels * height * width, num_classes, condition_dim, condition_width=4 * widths[0])
        self.channels, self.height, self.width = channels, height, width
        self.widths, self.layers, self.attention = tuple(widths), layers, tuple(attention)
        self.dropout, self.groups, self.head_width, self.cosines = dropout, groups, head_width, cosines
        self.features = CosineFeatures(cosines)
        levels = range(len(widths))
        self.unet = _unet2d(
            sample_size=(height, width),
            in_channels=self.features.size(channels),
            out_channels=channels,
            time_embedding_type="fourier",
            down_block_types=tuple("AttnDownBlock2D" if i in attention else "DownBlock2D" for i in levels),
            up_block_types=tuple("AttnUpBlock2D" if i in attention else "UpBlock2D" for i in reversed(levels)),
            block_out_channels=self.widths,
            layers_per_block=layers,
            dropout=dropout,
            attention_head_dim=head_width,
            norm_num_groups=groups,
            class_embed_type="identity" if num_classes or condition_dim else None,
        )
        nn.init.zeros_(self.unet.conv_out.weight)
        nn.init.zeros_(self.unet.conv_out.bias)

    def _forward(self, x: Tensor, t: Tensor, embedding: Tensor | None) -> Tensor:
        rows = t.numel()
        if embedding is not None:
            embedding = embedding.expand(*t.shape, -1).reshape(rows, embedding.shape[-1])
        # The model takes the logarithm of what it is given, and divides its output by it.
        level = t.exp().reshape(rows)
        value = self.unet(self._images(x, rows), level, class_labels=embedding, return_dict=False)[0]
        return (value * level[:, None, None, None]).reshape(x.shape)

    def _images(self, x: Tensor, rows: int) -> Tensor:
        """Pixels or their features as images ``(rows, channels * max(cosines, 1), height, width)``."""
        waves = max(self.cosines, 1)
        features = self.features(x).reshape(rows, self.channels, self.height, self.width, waves)
        return features.movedim(-1, 2).flatten(1, 2)


def _check(
    channels: int,
    height: int,
    width: int,
    widths: Sequence[int],
    layers: int,
    attention: Sequence[int],
    groups: int,
    head_width: int,
) -> None:
    """What diffusers would only notice in the middle of a forward pass, or not at all."""
    if min(channels, height, width, layers, groups, head_width, len(widths), *widths) < 1:
        raise ShapeError(
            "channels, height, width, layers, groups, head_width and every width of a U-Net are at least 1; got "
            f"{channels}, {height}, {width}, {layers}, {groups}, {head_width} and widths={tuple(widths)}"
        )
    factor = 2 ** (len(widths) - 1)
    if height % factor or width % factor:
        raise ShapeError(
            f"{len(widths)} levels halve an image {len(widths) - 1} times; height and width must be multiples of "
            f"{factor}, got {height}x{width}: use fewer widths, or another image size"
        )
    if not all(0 <= level < len(widths) for level in attention):
        raise ShapeError(f"attention names levels from 0 to {len(widths) - 1}, got {tuple(attention)}")
    if any(w % groups for w in widths):
        raise ShapeError(f"groups={groups} must divide every width, got widths={tuple(widths)}")
    if any(widths[level] % head_width for level in {*attention, len(widths) - 1}):
        raise ShapeError(f"head_width={head_width} must divide widths with attention, got widths={tuple(widths)}")


def _unet2d(**options: Any) -> Any:
    try:
        from diffusers import UNet2DModel
        from diffusers.models.attention_processor import Attention, AttnProcessor
    except ImportError as error:
        raise MissingExtraError.for_extra("diffusers", "images") from error
    unet: Any = UNet2DModel(**options)
    for module in unet.modules():
        if isinstance(module, Attention):
            # Likelihoods need forward-mode derivatives, which the fused kernels of attention do not have; that of
            # the normalisation behind it views its argument, and the output of attention is transposed.
            module.set_processor(AttnProcessor())
            module.register_forward_hook(_contiguous)
            # Where it matters autocast does it, and to double precision float32 is a step down.
            module.upcast_softmax = False
    return unet


def _contiguous(module: nn.Module, arguments: Any, output: Tensor) -> Tensor:
    return output.contiguous()
