import torch

from tests.training.editor.networks import NAMES, config
from training.editor.model import EditFields, Editor, apply_fields, warp


def make(seed=0, **model):
    torch.manual_seed(seed)
    settings = config(model=model)
    return Editor(settings.model, settings.data.image_size, len(NAMES))


def change(count):
    return torch.rand(count, len(NAMES)) * 2 - 1


def test_fields_have_the_shapes_and_ranges_that_the_bundle_promises():
    fields = make()(torch.rand(3, 3, 32, 32), 5 * change(3))
    assert fields.mask.shape == (3, 1, 32, 32)
    assert fields.gain.shape == fields.residual.shape == (3, 3, 32, 32)
    assert fields.flow.shape == (3, 2, 32, 32)
    assert ((fields.mask >= 0) & (fields.mask <= 1)).all()
    assert fields.gain.abs().max() <= 1
    assert (fields.flow.abs() <= config().model.max_flow * fields.mask).all()


def test_no_change_is_no_edit_exactly():
    image = torch.rand(2, 3, 32, 32)
    fields = make()(image, torch.zeros(2, len(NAMES)))
    assert fields.mask.abs().max() == 0
    assert fields.flow.abs().max() == 0
    torch.testing.assert_close(apply_fields(image, fields), image, rtol=0, atol=1e-6)


def test_a_small_change_is_a_small_edit():
    editor, image, requested = make(), torch.rand(2, 3, 32, 32), change(2)
    sizes = [editor(image, step * requested).mask.mean().item() for step in (0.0, 0.01, 0.05, 1.0)]
    assert sizes == sorted(sizes)
    assert sizes[1] < 0.2 * sizes[3]


def test_every_parameter_receives_a_gradient():
    editor, image = make(), torch.rand(4, 3, 32, 32)
    (apply_fields(image, editor(image, change(4))) - torch.rand(4, 3, 32, 32)).square().sum().backward()
    silent = [name for name, p in editor.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert silent == []


def test_what_is_behind_the_person_stays():
    editor, image, requested = make(person_channels=8), torch.rand(2, 3, 32, 32), change(2)
    free = make().eval()
    free.load_state_dict({name: value for name, value in editor.state_dict().items() if "person" not in name})
    found, unlimited = editor(image, requested), free(image, requested)
    assert found.person.shape == (2, 1, 32, 32)
    torch.testing.assert_close(found.mask, unlimited.mask * torch.sigmoid(2 * found.person - 1))
    torch.testing.assert_close(found.residual, unlimited.residual)
    assert (found.flow.abs() <= config().model.max_flow * found.mask).all()


def test_masks_teach_where_the_person_is_and_edits_how_to_edit():
    editor, image = make(person_channels=8), torch.rand(2, 3, 32, 32)
    person = {name for name, _ in editor.named_parameters() if name.startswith("person.")}

    def learning(loss):
        editor.zero_grad(set_to_none=True)
        loss.backward()
        return {name for name, p in editor.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0}

    assert learning(editor(image, change(2)).person.square().sum()) == person
    edited = apply_fields(image, editor(image, change(2)))
    assert learning((edited - torch.rand(2, 3, 32, 32)).square().sum()).isdisjoint(person)


def test_a_shuffled_residual_starts_without_a_grid():
    editor = make()
    with torch.no_grad():
        editor.sharp.bias.zero_()
        fields = editor(torch.full((1, 3, 32, 32), 0.5), change(1))
    inner = fields.residual[0, 0, 8:24, 8:24]
    assert torch.equal(inner[::2, ::2], inner[1::2, 1::2])


def test_flow_points_to_where_a_pixel_comes_from():
    image = torch.rand(1, 3, 16, 16)
    flow = torch.zeros(1, 2, 16, 16)
    flow[:, 0] = 2 / 16  # two pixels to the right
    torch.testing.assert_close(warp(image, flow)[..., :-2], image[..., 2:], rtol=0, atol=1e-5)
    flow = torch.zeros(1, 2, 16, 16)
    flow[:, 1] = -1 / 16  # one pixel up; the border repeats
    moved = warp(image, flow)
    torch.testing.assert_close(moved[:, :, 1:], image[:, :, :-1], rtol=0, atol=1e-5)
    torch.testing.assert_close(moved[:, :, 0], image[:, :, 0], rtol=0, atol=1e-5)


def test_fields_are_applied_as_documented():
    image = torch.rand(1, 3, 8, 8)
    mask, gain, residual = torch.rand(1, 1, 8, 8), torch.rand(1, 3, 8, 8) - 0.5, torch.rand(1, 3, 8, 8) - 0.5
    edited = apply_fields(image, EditFields(mask, gain, residual, torch.zeros(1, 2, 8, 8)))
    torch.testing.assert_close(edited, image + mask * (gain * image + residual), rtol=0, atol=1e-5)
