import torch

from training.noise import Noise
from training.plan import SILENCE, NoiseStrengths


def random_regions(frames: int) -> torch.Tensor:
    """uint8 (frames, 3, 32, 32) with three equal regions and equal frames."""
    region = torch.randint(0, 256, (1, 1, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(3))
    return region.repeat(frames, 3, 1, 1)


def test_regions_and_frames_of_a_clip_get_the_same_draw() -> None:
    faces = random_regions(4)
    noisy = Noise(NoiseStrengths(erasing=1.0), seed=1).faces(faces, step=0, group=0)
    assert noisy.dtype == torch.uint8
    assert len({tuple(plane.flatten().tolist()) for plane in noisy.flatten(0, 1)}) == 1
    assert not torch.equal(noisy, faces)


def test_a_draw_depends_on_seed_step_and_group_and_on_nothing_else() -> None:
    faces = random_regions(1)
    noise = Noise(NoiseStrengths(), seed=1)
    first = noise.faces(faces, step=5, group=2)
    torch.manual_seed(99)
    noise.faces(faces, step=0, group=0)
    assert torch.equal(noise.faces(faces, step=5, group=2), first)
    others = [
        noise.faces(faces, step=6, group=2),
        noise.faces(faces, step=5, group=3),
        Noise(NoiseStrengths(), seed=2).faces(faces, step=5, group=2),
    ]
    assert not any(torch.equal(other, first) for other in others)


def test_drawing_leaves_the_global_generator_as_it_was() -> None:
    torch.manual_seed(4)
    expected = torch.rand(3)
    torch.manual_seed(4)
    Noise(NoiseStrengths(), seed=1).faces(random_regions(2), step=0, group=0)
    assert torch.equal(torch.rand(3), expected)


def test_silence_changes_nothing() -> None:
    faces = torch.randint(0, 256, (6, 3, 32, 32), dtype=torch.uint8)
    noise = Noise(SILENCE, seed=1)
    assert torch.equal(noise.faces(faces, step=0, group=0), faces)
    assert torch.equal(noise.kept(4, 8, step=0, group=0), torch.ones(4, 8))


def test_dropout_keeps_the_mean() -> None:
    kept = Noise(NoiseStrengths(dropout=0.5), seed=1).kept(1000, 64, step=0, group=0)
    assert set(kept.flatten().tolist()) == {0.0, 2.0}
    assert abs(float(kept.mean()) - 1) < 0.05


def test_a_long_clip_shows_some_of_its_frames_in_order_and_others_each_time() -> None:
    frames = torch.arange(20, dtype=torch.uint8).reshape(20, 1, 1, 1).expand(20, 3, 8, 8)
    noise = Noise(NoiseStrengths(), seed=1)
    seen = [noise.some(frames, 5, step=step, group=0)[:, 0, 0, 0].tolist() for step in range(2)]
    assert all(len(rows) == 5 and rows == sorted(set(rows)) for rows in seen)
    assert seen[0] != seen[1]
    assert torch.equal(noise.some(frames[:4], 5, step=0, group=0), frames[:4])
