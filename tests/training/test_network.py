import pytest
import torch

from training.network import ClipClassifier, FrameEncoder, stage_widths


@pytest.fixture
def encoder() -> FrameEncoder:
    torch.manual_seed(0)
    return FrameEncoder(width=0.25).eval()


def random_faces(count: int, size: int = 64) -> torch.Tensor:
    return torch.randint(0, 256, (count, 9, size, size), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))


def test_full_width_is_the_papers_network() -> None:
    encoder = FrameEncoder(width=1.0)
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
    clip = ClipClassifier(32).eval()
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
    clip = ClipClassifier(32).eval()
    features = torch.randn(1, 5, 32)
    torch.testing.assert_close(clip(features, torch.ones(1, 5))[0], clip(features.flip(1), torch.ones(1, 5))[0])
