import torch

from training.noise import Noise

OFF = {"brightness": 0.0, "contrast": 0.0, "sharpness": 1.0, "translation": 0.0, "rotation_degrees": 0.0, "scale": 0.0}


def test_regions_of_a_face_get_the_same_draw() -> None:
    torch.manual_seed(3)
    region = torch.randint(0, 256, (4, 3, 32, 32), dtype=torch.uint8)
    noisy = Noise(draws_per_batch=4)(region.repeat(1, 3, 1, 1))
    assert noisy.dtype == torch.uint8
    assert torch.equal(noisy[:, 0:3], noisy[:, 3:6])
    assert torch.equal(noisy[:, 0:3], noisy[:, 6:9])
    assert not torch.equal(noisy[:, 0:3], region)


def test_groups_draw_for_themselves() -> None:
    torch.manual_seed(3)
    same = torch.randint(0, 256, (1, 9, 32, 32), dtype=torch.uint8).repeat(8, 1, 1, 1)
    noisy = Noise(draws_per_batch=8)(same)
    assert len({tuple(face.flatten().tolist()) for face in noisy}) == 8


def test_turned_off_only_the_flip_is_left() -> None:
    torch.manual_seed(0)
    faces = torch.randint(0, 256, (6, 9, 32, 32), dtype=torch.uint8)
    noisy = Noise(draws_per_batch=6, **OFF)(faces)
    assert all(torch.equal(after, before) or torch.equal(after, before.flip(-1)) for before, after in zip(faces, noisy, strict=True))


def test_a_seed_gives_the_same_noise() -> None:
    faces = torch.randint(0, 256, (6, 9, 32, 32), dtype=torch.uint8)
    torch.manual_seed(7)
    first = Noise()(faces)
    torch.manual_seed(7)
    assert torch.equal(first, Noise()(faces))
