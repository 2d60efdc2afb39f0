import torch

from training.config import OpponentConfig
from training.noise import own_noise
from training.vae.augmentation import AugmentationParameters, augment, degrade, reframe


def pictures():
    return torch.rand(16, 3, 32, 32, generator=torch.Generator().manual_seed(1)) * 2 - 1


def looks(count, seed):
    return AugmentationParameters.draw(count, torch.Generator().manual_seed(seed))


def test_the_same_looks_repeat_themselves_and_gradients_pass():
    image = pictures().requires_grad_()
    for transform in (augment, degrade):
        once, again = (transform(image, looks(16, 5)) for _ in range(2))
        assert once.shape == image.shape
        assert torch.equal(once, again)
        assert not torch.equal(once, transform(image, looks(16, 6)))
        (gradient,) = torch.autograd.grad(once.sum(), image)
        assert (gradient.flatten(1).abs().sum(1) > 0).all()


def test_a_picture_is_seen_the_same_whatever_part_it_is_in():
    image, whole = pictures(), looks(16, 5)
    for transform in (augment, degrade):
        seen = transform(image, whole)
        for rows in (slice(0, 5), slice(5, 6), slice(6, 16)):
            torch.testing.assert_close(transform(image[rows], whole.part(rows)), seen[rows])


def test_every_row_has_its_own_noise():
    noise = own_noise(torch.tensor([3, 4, 3]), (2, 500))
    assert torch.equal(noise[0], noise[2])
    assert abs(torch.corrcoef(noise[:2].flatten(1))[0, 1]) < 0.15
    assert abs(noise.std().item() - 1) < 0.1


def test_augmentation_keeps_texture_and_degradation_does_not():
    """A checkerboard of period two, as strong after the one and weaker after the other."""
    board = torch.tensor([[1.0, -1.0], [-1.0, 1.0]]).repeat(16, 16)
    image = (0.5 * board).expand(64, 3, 32, 32)

    def strength(shown):  # whatever the shift, neighbours differ
        return (shown[:, :, 4:-4, 5:-4] - shown[:, :, 4:-4, 4:-5]).abs().mean(dim=(1, 2, 3))

    plain = strength(image)
    augmented = strength(augment(image, looks(64, 0)))
    assert (augmented > 0.7 * plain).all()  # contrast alone goes down to 0.8
    degraded = strength(degrade(image, looks(64, 0)))
    assert (degraded < 0.2 * plain).any()


def test_some_pictures_lose_their_colour_and_none_their_light():
    image = torch.zeros(200, 3, 8, 8)
    image[:, 0] = 0.8
    seen = degrade(image, looks(200, 0)).mean(dim=(2, 3))  # [200, 3]
    grey = (seen[:, 0] - seen[:, 1]).abs() < 0.1
    assert 0.15 < grey.float().mean() < 0.45
    assert (seen[~grey, 0] > 0.5).all()
    torch.testing.assert_close(seen.mean(1), torch.full((200,), 0.8 / 3), atol=0.1, rtol=0)


def _framed(image, shift=(0.0, 0.0), angle=0.0, zoom=1.0, mirrored=False):
    count = len(image)
    return reframe(
        image,
        12,
        torch.tensor([shift] * count),
        torch.full((count,), angle),
        torch.full((count,), zoom),
        torch.full((count,), mirrored),
    )


def test_reframing_shifts_mirrors_turns_and_zooms():
    image = torch.rand(2, 3, 20, 20, generator=torch.Generator().manual_seed(5)) * 2 - 1
    inner = image[:, :, 4:16, 4:16]
    assert torch.allclose(_framed(image), inner, atol=1e-4)
    assert torch.allclose(_framed(image, shift=(2.0, -1.0)), image[:, :, 3:15, 6:18], atol=1e-4)
    assert torch.allclose(_framed(image, mirrored=True), inner.flip(3), atol=1e-4)
    quarter = _framed(image, angle=torch.pi / 2)
    assert torch.allclose(quarter, inner.rot90(1, (2, 3)), atol=1e-4)
    assert torch.allclose(_framed(image, angle=torch.pi / 2, mirrored=True), quarter.flip(3), atol=1e-4)


def test_zooming_in_makes_a_face_larger():
    image = torch.full((1, 3, 20, 20), -1.0)
    image[:, :, 8:12, 8:12] = 1.0
    assert (_framed(image, zoom=1.5) > 0).sum() > (_framed(image) > 0).sum() > (_framed(image, zoom=0.6) > 0).sum()


def test_what_is_in_pixels_grows_with_the_picture():
    generator = torch.Generator()
    small, large = (
        AugmentationParameters.draw(800, generator.manual_seed(1), OpponentConfig(), size) for size in (64, 128)
    )
    assert small.shift.abs().max() == 4
    assert large.shift.abs().max() == 8
    assert torch.equal(large.noise, 2 * small.noise)
    assert torch.equal(large.tint, small.tint)


def test_the_configuration_decides_how_pictures_are_seen():
    config = OpponentConfig(shift=0, saturation=0, contrast=0, brightness=0, tint=0, grey=0, blur=0, noise=0)
    looks = AugmentationParameters.draw(8, torch.Generator().manual_seed(0), config)
    image = torch.rand(8, 3, 16, 16) * 2 - 1
    torch.testing.assert_close(degrade(augment(image, looks), looks), image)
