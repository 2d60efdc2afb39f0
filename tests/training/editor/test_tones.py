import torch

from tests.training.editor.networks import config
from training.editor import tones


def data(**changes):
    return config(data=changes).data


def test_so_many_pictures_get_darker_and_the_others_stay():
    exponents = tones.draw_exponents(4000, 1, data(darker=0.25, darkest=2.5))
    changed = (exponents != 1).any(1)
    assert abs(changed.float().mean() - 0.25) < 0.03
    assert exponents.amin() == 1
    assert exponents.amax() == 2.5
    assert (exponents[changed].std(1) > 0).float().mean() > 0.9  # tinted as well
    assert (tones.draw_exponents(50, 1, data()) == 1).all()


def test_black_and_white_stay_and_what_is_between_gets_darker():
    image = torch.tensor([-1.0, 0.0, 1.0]).expand(2, 3, 1, 3).clone()
    darker = tones.darken(image, torch.tensor([[2.0, 2.0, 3.0], [1.0, 1.0, 1.0]]))
    torch.testing.assert_close(darker[0, 0, 0], torch.tensor([-1.0, -0.5, 1.0]))
    torch.testing.assert_close(darker[0, 2, 0], torch.tensor([-1.0, -0.75, 1.0]))
    torch.testing.assert_close(darker[1], image[1])
    assert tones.darken(image, torch.ones(2, 3)) is image
