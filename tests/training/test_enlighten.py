"""The parts of EnlightenGAN, one by one: networks, losses, the eyes of the loss, and darkness of known amounts."""

import pytest
import torch

from training.enlighten.darkness import SCREEN_GAMMA, Darkness, darkened
from training.enlighten.features import TrunkFeatures
from training.enlighten.losses import least_squares, relativistic, self_feature_preserving
from training.enlighten.network import Generator, discriminator, luma_of, stage_widths
from training.enlighten.settings import Darkening
from training.network import Network
from training.plan import Design

WIDTH = 0.125


@pytest.fixture
def pictures() -> torch.Tensor:
    """Something to be seen, from -1 to 1."""
    torch.manual_seed(1)
    coarse = torch.rand(4, 3, 8, 8) * 1.6 - 0.8
    return torch.nn.functional.interpolate(coarse, size=64, mode="bilinear")


@pytest.fixture
def generator() -> Generator:
    torch.manual_seed(2)
    made = Generator(WIDTH).eval()
    torch.nn.init.normal_(made.residual.weight)
    return made


def test_widths_are_those_of_the_paper_times_the_setting() -> None:
    assert stage_widths(1.0) == [32, 64, 128, 256, 512]
    assert stage_widths(0.25) == [8, 16, 32, 64, 128]


@pytest.mark.parametrize("sides", [(16, 16), (48, 160)])
def test_a_picture_of_any_size_in_steps_of_16_keeps_it(generator: Generator, sides: tuple[int, int]) -> None:
    assert generator(torch.zeros(2, 3, *sides)).shape == (2, 3, *sides)


def test_the_generator_begins_by_changing_nothing(pictures: torch.Tensor) -> None:
    assert torch.equal(Generator(WIDTH)(pictures), pictures)


def test_what_is_white_is_not_attended_to(generator: Generator, pictures: torch.Tensor) -> None:
    pictures[:, :, :10] = 1
    changed = (generator(pictures) - pictures).abs().detach()
    assert float(changed[:, :, :10].max()) < 1e-5
    assert float(changed[:, :, 20:].mean()) > 0.01


def test_luma_is_from_0_to_1() -> None:
    black_white_green = torch.tensor([[-1.0, -1, -1], [1, 1, 1], [-1, 1, -1]]).reshape(3, 3, 1, 1)
    assert luma_of(black_white_green).flatten().tolist() == pytest.approx([0, 1, 0.587], abs=1e-6)


def test_a_discriminator_judges_every_part_of_a_picture(pictures: torch.Tensor) -> None:
    judge = discriminator(4, WIDTH)
    verdicts = judge(pictures)
    assert verdicts.shape[:2] == (4, 1)
    assert verdicts.shape[2] > 1
    assert not any(isinstance(layer, torch.nn.BatchNorm2d) for layer in judge.modules())


def test_relativistic_loss_is_least_when_one_is_more_real_by_one() -> None:
    real, fake = torch.tensor([1.5, 1.5]), torch.tensor([0.5, 0.5])
    assert relativistic(real, fake).item() == pytest.approx(0.5)  # ((1 - 1)^2 + (-1)^2) / 2
    assert relativistic(real, fake) < relativistic(fake, real)
    assert relativistic(real + 7, fake + 7).item() == pytest.approx(0.5)  # only the difference counts


def test_least_squares_wants_one_for_real_and_none_for_fake() -> None:
    assert least_squares(torch.ones(3), real=True).item() == 0
    assert least_squares(torch.ones(3), real=False).item() == 1


def test_light_is_free_and_what_is_shown_is_not(pictures: torch.Tensor) -> None:
    features = TrunkFeatures(Network(Design(width=WIDTH)).encoder, width=WIDTH)
    brighter = pictures * 0.5 + 0.4
    assert self_feature_preserving(features, pictures, brighter).item() < 0.01
    assert self_feature_preserving(features, pictures, pictures.flip(0)).item() > 0.2


def test_the_eyes_never_learn(pictures: torch.Tensor) -> None:
    features = TrunkFeatures(Network(Design(width=WIDTH)).encoder, width=WIDTH).train()
    seen = features(pictures)
    features(torch.zeros_like(pictures))
    assert torch.equal(features(pictures), seen)
    assert not any(parameter.requires_grad for parameter in features.parameters())


def test_the_eyes_see_what_the_release_sees_of_a_face() -> None:
    encoder = Network(Design(width=WIDTH)).encoder.eval()
    features = TrunkFeatures(encoder, width=WIDTH)
    faces = torch.randn(2, 3, 64, 64)
    whole = encoder.stages[1](encoder.stages[0](encoder.stem(torch.cat([faces, torch.randn(2, 6, 64, 64)], dim=1))))
    own = features.layers(faces)
    assert torch.allclose(own, whole[:, : own.shape[1]], atol=1e-5)


# --- darkness --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("exposure", [1 / 2, 1 / 8])
def test_exposure_is_a_factor_on_linear_light(exposure: float) -> None:
    grey = torch.full((1, 3, 32, 32), 200, dtype=torch.uint8)
    dark = darkened(grey, Darkness.known(1, exposure=exposure), torch.Generator())
    light = (dark.float().mean() / 200).pow(SCREEN_GAMMA)
    assert light.item() == pytest.approx(exposure, rel=0.03)


def test_noise_is_as_strong_as_it_is_said_to_be() -> None:
    grey = torch.full((1, 3, 128, 128), 128, dtype=torch.uint8)
    draw = torch.Generator().manual_seed(1)
    dark = darkened(grey, Darkness.known(1, exposure=0.25, read_noise=0.004, shot_noise=0.0), draw)
    assert ((dark.float() / 255).pow(SCREEN_GAMMA)).std().item() == pytest.approx(0.004, rel=0.1)


def test_full_light_without_noise_is_no_darkness() -> None:
    pictures = torch.randint(0, 256, (2, 3, 16, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    assert torch.equal(darkened(pictures, Darkness.known(2, exposure=1.0), torch.Generator()), pictures)


def test_a_draw_is_within_its_limits_and_the_same_again() -> None:
    strengths = Darkening(exposure=(1 / 16, 1 / 4), cast=0.0, uneven=0.0)
    first, again = (Darkness.drawn(64, 32, strengths, torch.Generator().manual_seed(3)) for _ in range(2))
    assert torch.equal(first.exposure, again.exposure)
    assert 1 / 16 <= float(first.exposure.min()) < 1 / 10
    assert 1 / 6 < float(first.exposure.max()) <= 1 / 4


def test_light_from_a_side_grows_to_daylight() -> None:
    drawn = Darkness.drawn(8, 32, Darkening(cast=0.0, uneven=1.0), torch.Generator().manual_seed(3))
    brightest, darkest = drawn.exposure.amax(dim=3), drawn.exposure.amin(dim=3)
    assert torch.allclose(brightest, torch.ones_like(brightest))
    assert float(darkest.max()) <= 1 / 3 + 1e-6
