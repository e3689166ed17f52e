"""The network of arXiv 2008.02655, section 3: one grouped ResNet18 trunk and three attentions.

    faces (B, 9, S, S) -> trunk -> 4 x spatial attention -> channel attention -> feature     FrameEncoder
    features (B, T, F) -----------------------------------> frame attention  -> 7 logits     ClipClassifier

The trunk's convolutions have three groups, so face, eyes and mouth never mix before channel attention weighs
them against each other. `width` scales every channel count; 1.0 is the paper's (64, 128, 256, 512).
"""

import torch
from torch import Tensor, nn

from shared.expressions import LABELS, REGIONS

GROUPS = len(REGIONS)
STAGE_CHANNELS = (64, 128, 256, 512)
PIXEL_MEAN, PIXEL_STD = 127.5, 64.0
LUMA = (0.299, 0.587, 0.114)
"""Weights of red, green and blue in ITU-R BT.601 luma."""


def stage_widths(width: float) -> list[int]:
    """Channels per region after each of the four residual stages."""
    return [max(8, round(channels * width / 8) * 8) for channels in STAGE_CHANNELS]


def grouped_conv(inputs: int, outputs: int, *, kernel: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2, groups=GROUPS, bias=False)


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut (He et al., arXiv 1512.03385), in three groups."""

    def __init__(self, inputs: int, outputs: int, *, stride: int) -> None:
        super().__init__()
        self.conv1 = grouped_conv(inputs, outputs, kernel=3, stride=stride)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = grouped_conv(outputs, outputs, kernel=3)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or inputs != outputs:
            self.shortcut = nn.Sequential(grouped_conv(inputs, outputs, kernel=1, stride=stride), nn.BatchNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        residual = self.bn2(self.conv2(torch.relu(self.bn1(self.conv1(x)))))
        return torch.relu(residual + self.shortcut(x))


def residual_stage(inputs: int, outputs: int, *, stride: int) -> nn.Sequential:
    """The two blocks of ResNet18; the first one changes resolution and channels."""
    return nn.Sequential(BasicBlock(inputs, outputs, stride=stride), BasicBlock(outputs, outputs, stride=1))


class SpatialAttention(nn.Module):
    """Pools a feature map by `softmax(w_s2 tanh(W_s1 L))` over its positions, for each region by itself."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        hidden = max(8, channels // 2)
        self.score = nn.Sequential(
            nn.Conv2d(GROUPS * channels, GROUPS * hidden, 1, groups=GROUPS, bias=False),
            nn.Tanh(),
            nn.Conv2d(GROUPS * hidden, GROUPS, 1, groups=GROUPS, bias=False),
        )

    def forward(self, maps: Tensor) -> tuple[Tensor, Tensor]:
        """Maps (B, 3C, H, W) to pooled (B, 3, C) and weights (B, 3, H, W), which sum to 1 over each region."""
        batch, _, height, width = maps.shape
        weights = torch.softmax(self.score(maps).flatten(2), dim=2)
        values = maps.reshape(batch, GROUPS, -1, height * width)
        pooled = torch.einsum("brcp,brp->brc", values, weights)
        return pooled, weights.reshape(batch, GROUPS, height, width)


class Attention(nn.Module):
    """Scores a set of vectors by `w_2 tanh(W_1 v)`: the form of both channel and frame attention."""

    def __init__(self, size: int) -> None:
        super().__init__()
        hidden = max(8, size // 4)
        self.score = nn.Sequential(nn.Linear(size, hidden, bias=False), nn.Tanh(), nn.Linear(hidden, 1, bias=False))

    def forward(self, vectors: Tensor) -> Tensor:
        """Vectors (..., N, size) to unnormalised scores (..., N)."""
        scores: Tensor = self.score(vectors)
        return scores.squeeze(-1)


class FrameEncoder(nn.Module):
    """One face frame to one feature: everything that is done once per frame.

    Normalisation lives in here, so callers send uint8 and cannot get it wrong.
    """

    def __init__(self, *, width: float) -> None:
        super().__init__()
        widths = stage_widths(width)
        self.stem = nn.Sequential(
            grouped_conv(3 * GROUPS, GROUPS * widths[0], kernel=7, stride=2),
            nn.BatchNorm2d(GROUPS * widths[0]),
            nn.ReLU(),
            nn.MaxPool2d(3, stride=2, padding=1),
        )
        inputs = [widths[0], *widths[:-1]]
        strides = (1, 2, 2, 2)
        self.stages = nn.ModuleList(
            residual_stage(GROUPS * before, GROUPS * after, stride=stride)
            for before, after, stride in zip(inputs, widths, strides, strict=True)
        )
        self.spatial = nn.ModuleList(SpatialAttention(channels) for channels in widths)
        self.channel = Attention(sum(widths))
        self.feature_size = widths[-1]
        self.reduce = nn.Linear(sum(widths), self.feature_size)

    def forward(self, faces: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Faces uint8 (B, 9, S, S) to features (B, F), region weights (B, 3) and spatial maps (B, 3, S/8, S/8).

        Region weights sum to 1, and so does each region's map: it is the spatial attention after the second stage,
        fine enough to point at a brow and coarse enough to send.
        """
        x = self.stem((faces.to(self.reduce.weight.dtype) - PIXEL_MEAN) / PIXEL_STD)
        pooled: list[Tensor] = []
        maps: list[Tensor] = []
        for stage, attend in zip(self.stages, self.spatial, strict=True):
            x = stage(x)
            vectors, weights = attend(x)
            pooled.append(vectors)
            maps.append(weights)
        regions = torch.cat(pooled, dim=2)
        region_weights = torch.softmax(self.channel(regions), dim=1)
        feature = self.reduce((regions * region_weights.unsqueeze(2)).sum(dim=1))
        return feature, region_weights, maps[1]


class ClipClassifier(nn.Module):
    """The features of a clip to one verdict: frame attention, then seven classes.

    Dropout before the last layer is the paper's only noise inside the network (0.5), and is off when judging.
    """

    def __init__(self, feature_size: int, *, dropout: float = 0.5) -> None:
        super().__init__()
        self.frame = Attention(feature_size)
        self.dropout = nn.Dropout(dropout)
        self.output = nn.Linear(feature_size, len(LABELS))

    def forward(self, features: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Features (B, T, F) and mask (B, T), 1 for a frame and 0 for padding, to logits (B, 7) and frame weights (B, T).

        Weights of a clip sum to 1; padding weighs nothing. A clip needs at least one frame.
        """
        scores = self.frame(features).masked_fill(mask < 0.5, -1e4)
        weights = torch.softmax(scores, dim=1) * mask
        clip = (features * weights.unsqueeze(2)).sum(dim=1)
        return self.output(self.dropout(clip)), weights
