"""The network of arXiv 2008.02655, section 3: one grouped ResNet18 trunk and three attentions.

    faces (B, 9, S, S) -> trunk -> 4 x spatial attention -> channel attention -> feature     FrameEncoder
    features (B, T, F) -----------------------------------> frame attention  -> 7 logits     ClipClassifier

The trunk's convolutions have one group per region, so face, eyes and mouth never mix before channel attention weighs
them against each other. `width` scales every channel count; 1.0 is the paper's (64, 128, 256, 512). A `Design` may leave
regions or attentions out, for the paper's tables; every release has them all.
"""

import torch
from torch import Tensor, nn

from shared.expressions import LABELS, REGIONS
from training.plan import Design

STAGE_CHANNELS = (64, 128, 256, 512)
PIXEL_MEAN, PIXEL_STD = 127.5, 64.0


def stage_widths(width: float) -> list[int]:
    """Channels per region after each of the four residual stages."""
    return [max(8, round(channels * width / 8) * 8) for channels in STAGE_CHANNELS]


class ColourConv(nn.Conv2d):
    """The first convolution: reads RGB or, for a third of the work, luma as RGB whose three colours are equal."""

    def forward(self, planes: Tensor) -> Tensor:
        """(B, 3 * groups, H, W) of colours or (B, groups, H, W) of luma."""
        if torch.jit.is_tracing() or planes.shape[1] == self.in_channels:  # type: ignore[attr-defined, no-untyped-call]
            # A graph that is being traced will always be given colours.
            return super().forward(planes)
        weight = self.weight.sum(dim=1, keepdim=True)
        return nn.functional.conv2d(planes, weight, stride=self.stride, padding=self.padding, groups=self.groups)


def grouped_conv(inputs: int, outputs: int, *, kernel: int, groups: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2, groups=groups, bias=False)


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut (He et al., arXiv 1512.03385), in groups."""

    def __init__(self, inputs: int, outputs: int, *, stride: int, groups: int) -> None:
        super().__init__()
        self.conv1 = grouped_conv(inputs, outputs, kernel=3, stride=stride, groups=groups)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = grouped_conv(outputs, outputs, kernel=3, groups=groups)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or inputs != outputs:
            self.shortcut = nn.Sequential(grouped_conv(inputs, outputs, kernel=1, stride=stride, groups=groups), nn.BatchNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        residual = self.bn2(self.conv2(torch.relu(self.bn1(self.conv1(x)))))
        return torch.relu(residual + self.shortcut(x))


def residual_stage(inputs: int, outputs: int, *, stride: int, groups: int) -> nn.Sequential:
    """The two blocks of ResNet18; the first one changes resolution and channels."""
    return nn.Sequential(BasicBlock(inputs, outputs, stride=stride, groups=groups), BasicBlock(outputs, outputs, stride=1, groups=groups))


class SpatialAttention(nn.Module):
    """Pools a feature map by `softmax(w_s2 tanh(W_s1 L))` over its positions, for each region by itself."""

    def __init__(self, channels: int, *, groups: int) -> None:
        super().__init__()
        hidden = max(8, channels // 2)
        self.groups = groups
        self.score = nn.Sequential(
            nn.Conv2d(groups * channels, groups * hidden, 1, groups=groups, bias=False),
            nn.Tanh(),
            nn.Conv2d(groups * hidden, groups, 1, groups=groups, bias=False),
        )

    def forward(self, maps: Tensor) -> tuple[Tensor, Tensor]:
        """Maps (B, GC, H, W) to pooled (B, G, C) and weights (B, G, H, W), which sum to 1 over each region."""
        batch, _, height, width = maps.shape
        weights = torch.softmax(self.score(maps).flatten(2), dim=2)
        values = maps.reshape(batch, self.groups, -1, height * width)
        pooled = torch.einsum("brcp,brp->brc", values, weights)
        return pooled, weights.reshape(batch, self.groups, height, width)


class SpatialMean(nn.Module):
    """What spatial attention is compared with: every position weighs the same."""

    def __init__(self, *, groups: int) -> None:
        super().__init__()
        self.groups = groups

    def forward(self, maps: Tensor) -> tuple[Tensor, Tensor]:
        batch, _, height, width = maps.shape
        weights = maps.new_full((batch, self.groups, height, width), 1 / (height * width))
        return maps.reshape(batch, self.groups, -1, height * width).mean(dim=3), weights


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


class Indifference(nn.Module):
    """What an `Attention` is compared with: every vector scores the same."""

    def forward(self, vectors: Tensor) -> Tensor:
        return vectors.new_zeros(vectors.shape[:-1])


class FrameEncoder(nn.Module):
    """One face frame to one feature: everything that is done once per frame.

    Normalisation lives in here, so callers send uint8 and cannot get it wrong.
    """

    def __init__(self, design: Design) -> None:
        super().__init__()
        widths, groups = stage_widths(design.width), len(design.regions)
        self.stem = nn.Sequential(
            ColourConv(3 * groups, groups * widths[0], 7, 2, padding=3, groups=groups, bias=False),
            nn.BatchNorm2d(groups * widths[0]),
            nn.ReLU(),
            nn.MaxPool2d(3, stride=2, padding=1),
        )
        inputs = [widths[0], *widths[:-1]]
        strides = (1, 2, 2, 2)
        self.stages = nn.ModuleList(
            residual_stage(groups * before, groups * after, stride=stride, groups=groups)
            for before, after, stride in zip(inputs, widths, strides, strict=True)
        )
        attend = design.spatial_attention
        self.spatial = nn.ModuleList(
            SpatialAttention(channels, groups=groups) if attend else SpatialMean(groups=groups) for channels in widths
        )
        self.channel = Attention(sum(widths)) if design.channel_attention else Indifference()
        self.feature_size = widths[-1]
        self.reduce = nn.Linear(sum(widths), self.feature_size)
        self.regions = [REGIONS.index(region) for region in design.regions]

    def forward(self, faces: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Faces uint8 (B, 9, S, S) to features (B, F), region weights (B, 3) and spatial maps (B, 3, S/8, S/8).

        Region weights sum to 1, and so does each region's map: it is the spatial attention after the second stage,
        fine enough to point at a brow and coarse enough to send. Faces of luma are (B, 3, S, S), a plane per region.
        """
        if len(self.regions) < len(REGIONS):
            faces = faces.unflatten(1, (len(REGIONS), -1))[:, self.regions].flatten(1, 2)
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

    Dropout before the last layer is the paper's only noise inside the network (0.5). It is part of `training.noise`, which draws it
    as it draws all noise, and is never here when judging.
    """

    def __init__(self, feature_size: int, design: Design) -> None:
        super().__init__()
        self.frame = Attention(feature_size) if design.frame_attention else Indifference()
        self.output = nn.Linear(feature_size, len(LABELS))

    def forward(self, features: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Features (B, T, F) and mask (B, T), 1 for a frame and 0 for padding, to logits (B, 7) and frame weights (B, T).

        Weights of a clip sum to 1; padding weighs nothing. A clip needs at least one frame.
        """
        clip, weights = self.pool(features, mask)
        return self.output(clip), weights

    def pool(self, features: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """One vector per clip (B, F), and the frame weights."""
        scores = self.frame(features).masked_fill(mask < 0.5, -1e4)
        weights = torch.softmax(scores, dim=1) * mask
        return (features * weights.unsqueeze(2)).sum(dim=1), weights


class Network(nn.Module):
    """Encoder and classifier as one module, so that one optimiser, one average and one file hold both."""

    def __init__(self, design: Design) -> None:
        super().__init__()
        self.design = design
        self.encoder = FrameEncoder(design)
        self.clip = ClipClassifier(self.encoder.feature_size, design)

    def forward(self, faces: Tensor, counts: Tensor, kept: Tensor | None = None) -> Tensor:
        """Faces (sum of counts, 9 or 3, S, S) of clips with so many frames each, int64 (B,), to logits (B, 7).

        kept: (B, F), what dropout leaves of each clip's vector; none is dropped without it.
        """
        features, _, _ = self.encoder(faces)
        clip, _ = self.clip.pool(*padded(features, counts))
        logits: Tensor = self.clip.output(clip if kept is None else clip * kept)
        return logits


def padded(features: Tensor, counts: Tensor) -> tuple[Tensor, Tensor]:
    """Features (sum of counts, F), clip after clip, as (B, T, F) with zeros behind short clips, and their mask (B, T)."""
    mask = torch.arange(int(counts.max()), device=features.device) < counts.unsqueeze(1)
    rows = features.new_zeros(*mask.shape, features.shape[1])
    rows[mask] = features
    return rows, mask.to(features.dtype)
