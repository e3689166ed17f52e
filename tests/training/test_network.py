import pytest
import torch

from shared.expressions import REGIONS
from training.network import ClipClassifier, FrameEncoder, Network, padded, stage_widths
from training.plan import Design


@pytest.fixture
def encoder() -> FrameEncoder:
    torch.manual_seed(0)
    return FrameEncoder(Design(width=0.25)).eval()


def random_faces(count: int, size: int = 64) -> torch.Tensor:
    return torch.randint(0, 256, (count, 9, size, size), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))


def test_full_width_is_the_papers_network() -> None:
    encoder = FrameEncoder(Design(width=1.0))
    assert stage_widths(1.0) == [64, 128, 256, 512]
    assert encoder.feature_size == 512
    assert encoder.reduce.in_features == 960
    trunk = sum(parameter.numel() for module in (encoder.stem, encoder.stages) for parameter in module.parameters())
    assert trunk == 3 * 11_176_512, "three ResNet18 trunks without their last layer"


@pytest.mark.parametrize("size", [48, 64, 224])
def test_shapes_and_attention_sums(encoder: FrameEncoder, size: int) -> None:
    feature, regions, maps = encoder(random_faces(2, size))
    assert feature.shape == (2, encoder.feature_size)
    assert regions.shape == (2, 3)
    assert maps.shape == (2, 3, size // 8, size // 8)
    torch.testing.assert_close(regions.sum(dim=1), torch.ones(2))
    torch.testing.assert_close(maps.sum(dim=(2, 3)), torch.ones(2, 3))


def test_regions_never_mix_in_the_trunk(encoder: FrameEncoder) -> None:
    faces = random_faces(1)
    other = faces.clone()
    other[:, 6:] = 255 - other[:, 6:]
    _, _, before = encoder(faces)
    _, _, after = encoder(other)
    torch.testing.assert_close(before[:, :2], after[:, :2])
    assert not torch.allclose(before[:, 2], after[:, 2])


def test_each_face_is_encoded_by_itself(encoder: FrameEncoder) -> None:
    faces = random_faces(3)
    together, _, _ = encoder(faces)
    alone, _, _ = encoder(faces[1:2])
    torch.testing.assert_close(together[1:2], alone, atol=1e-5, rtol=1e-4)


def test_padding_weighs_nothing() -> None:
    torch.manual_seed(0)
    clip = ClipClassifier(32, Design()).eval()
    features = torch.randn(1, 3, 32)
    padded = torch.cat([features, torch.randn(1, 4, 32) * 100], dim=1)
    mask = torch.tensor([[1.0, 1, 1, 0, 0, 0, 0]])
    logits, weights = clip(features, torch.ones(1, 3))
    padded_logits, padded_weights = clip(padded, mask)
    torch.testing.assert_close(logits, padded_logits)
    torch.testing.assert_close(weights, padded_weights[:, :3])
    assert padded_weights[:, 3:].abs().sum() == 0


def test_a_clip_does_not_depend_on_the_order_of_its_frames() -> None:
    torch.manual_seed(0)
    clip = ClipClassifier(32, Design()).eval()
    features = torch.randn(1, 5, 32)
    torch.testing.assert_close(clip(features, torch.ones(1, 5))[0], clip(features.flip(1), torch.ones(1, 5))[0])


def test_luma_is_rgb_with_equal_colours(encoder: FrameEncoder) -> None:
    grey = random_faces(2)[:, :3]
    for mine, theirs in zip(encoder(grey), encoder(grey.repeat_interleave(3, dim=1)), strict=True):
        torch.testing.assert_close(mine, theirs, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("region", REGIONS)
def test_a_network_of_one_region_sees_no_other(region: str) -> None:
    torch.manual_seed(0)
    encoder = FrameEncoder(Design(width=0.125, regions=(region,))).eval()
    faces = random_faces(1)
    own = slice(3 * REGIONS.index(region), 3 * REGIONS.index(region) + 3)
    others, changed = 255 - faces, faces.clone()
    others[:, own] = faces[:, own]
    changed[:, own] = 255 - faces[:, own]
    torch.testing.assert_close(encoder(faces)[0], encoder(others)[0])
    assert not torch.allclose(encoder(faces)[0], encoder(changed)[0])


def test_without_an_attention_everything_weighs_the_same() -> None:
    torch.manual_seed(0)
    network = Network(Design(width=0.125, spatial_attention=False, channel_attention=False, frame_attention=False)).eval()
    features, regions, maps = network.encoder(random_faces(2))
    torch.testing.assert_close(regions, torch.full((2, 3), 1 / 3))
    torch.testing.assert_close(maps, torch.full((2, 3, 8, 8), 1 / 64))
    _, frames = network.clip(features[None], torch.ones(1, 2))
    torch.testing.assert_close(frames, torch.full((1, 2), 1 / 2))
    assert not any("score" in name for name in network.state_dict())


def test_clips_of_all_lengths_are_judged_together_as_alone() -> None:
    torch.manual_seed(0)
    network = Network(Design(width=0.125)).eval()
    faces, counts = random_faces(6), torch.tensor([1, 3, 2])
    together = network(faces, counts)
    alone = torch.cat([network(group, torch.tensor([len(group)])) for group in faces.split(counts.tolist())])
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=1e-4)


def test_padding_is_behind_each_clip() -> None:
    rows, mask = padded(torch.arange(6.0)[:, None], torch.tensor([1, 3, 2]))
    assert rows.squeeze(-1).tolist() == [[0, 0, 0], [1, 2, 3], [4, 5, 0]]
    assert mask.tolist() == [[1, 0, 0], [1, 1, 1], [1, 1, 0]]
