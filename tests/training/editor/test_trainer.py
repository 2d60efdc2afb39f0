import numpy as np
import pytest
import torch

from tests.training.editor.networks import KEPT, NAMES, config, features
from training import checkpoint
from training.checkpoint import load_editor
from training.editor import objective
from training.editor.source import CachedEditorFaces, EditorFaces
from training.editor.trainer import EditorTrainer
from training.trainer import DivergedError

LABELS = [*NAMES, *KEPT]


def faces(count, side, seed):
    rng = np.random.default_rng(seed)
    labels = rng.choice(np.array([-1, 1], dtype=np.int8), (count, len(LABELS)))
    pixels = rng.integers(0, 256, (count, side, side, 3), dtype=np.uint8)
    return EditorFaces(pixels, labels, rng.integers(0, 256, (count, side // 2, side // 2), dtype=np.uint8))


class Source(CachedEditorFaces):
    """Faces that no index lists."""

    def __init__(self, found):
        self.faces, self.attributes, self._order = found, LABELS, None

    def __len__(self):
        return len(self.faces.pixels)

    def frequencies(self):
        return (self.faces.labels > 0).mean(0).astype(np.float32)

    def digest(self):
        return "0" * 64

    def read(self, rows):
        found = self.faces
        return EditorFaces(found.pixels[rows], found.labels[rows], found.person[rows])


def make(directory, **sections):
    settings = config(**sections)
    held_out = faces(8, settings.data.image_size, seed=1)
    source = Source(faces(24, settings.data.image_size + 2 * settings.data.margin, seed=0))
    return EditorTrainer(settings, source, held_out, features(), directory, torch.device("cpu"))


def run(trainer, steps):
    return [{name: float(value) for name, value in trainer.train_step().items()} for _ in range(steps)]


def test_a_resumed_run_repeats_the_uninterrupted_one(tmp_path):
    straight = make(tmp_path)
    expected = run(straight, 6)
    interrupted = make(tmp_path)
    run(interrupted, 4)
    interrupted.save("last.pt")
    resumed = make(tmp_path)
    resumed.resume(tmp_path / "last.pt")
    assert run(resumed, 2) == expected[4:]
    for ours, theirs in zip(resumed.average.parameters(), straight.average.parameters(), strict=True):
        assert torch.equal(ours, theirs)


def test_the_reference_of_anchored_edits_survives_a_resume(tmp_path):
    """It is what the run began with, and not what it has become."""
    settings = {"requests": {"emphasis": {"Smiling": 2.0}}, "loss": {"anchor": 1.0}}
    first = make(tmp_path)
    run(first, 4)
    first.save("last.pt")
    begun = make(tmp_path, **settings)
    begun.warm_start(tmp_path / "last.pt")
    began = {name: value.clone() for name, value in begun.average.state_dict().items()}
    run(begun, 4)
    begun.save("anchored.pt")
    resumed = make(tmp_path, **settings)
    resumed.resume(tmp_path / "anchored.pt")
    now = resumed.average.state_dict()
    assert any(not torch.equal(now[name], value) for name, value in began.items())
    for name, value in resumed.reference.state_dict().items():
        torch.testing.assert_close(value, began[name])


def test_the_classifiers_have_a_head_start(tmp_path):
    trainer = make(tmp_path)
    before = {name: value.clone() for name, value in trainer.editor.state_dict().items()}
    first, second, third = run(trainer, 3)
    assert set(first) == set(second) == {"opponent_gradient_norm", "opponent_loss", "classifier", "robust"}
    assert {"edit", "keep", "adversarial", "critic"} <= set(third)
    assert any(not torch.equal(before[name], value) for name, value in trainer.editor.state_dict().items())


def test_where_the_person_is_is_learned_before_edits(tmp_path):
    """And by an editor that edits already, without a change of its edits."""
    trainer = make(tmp_path, model={"person_channels": 8})
    before = {name: value.clone() for name, value in trainer.editor.state_dict().items()}
    first, _, third = run(trainer, 3)
    assert first["person"] > 0
    assert {"person", "edit"} <= set(third)
    begun = make(tmp_path, model={"person_channels": 8})
    run(begun, 2)
    changed = {name for name, value in begun.editor.state_dict().items() if not torch.equal(before[name], value)}
    assert changed
    assert all(name.startswith("person.") for name in changed)


def test_darker_pictures_are_those_without_light_hair_or_skin(tmp_path):
    plain, dark = make(tmp_path), make(tmp_path, data={"darker": 1.0})
    (before, _), (after, _) = plain._batch(), dark._batch()
    changed = (before.image != after.image).flatten(1).any(1)
    assert torch.equal(changed, ~after.requests.light)
    assert changed.any()
    assert not changed.all()
    assert before.requests.anchored.any()
    assert torch.equal(after.requests.anchored, before.requests.anchored & ~changed)


def test_what_becomes_bald_lies_above_the_eyes(tmp_path):
    trainer = make(tmp_path, requests={"emphasis": {"Bald": 1e6}})
    batch, _ = trainer._batch()
    rows = batch.scalp.amax(dim=(1, 3)) > 0  # [N, S]
    eyes = objective.in_frame(trainer.config)[0, 1]
    assert batch.requests.bares.any()
    assert torch.equal(rows.any(1), batch.requests.bares & (batch.person.amax(dim=(1, 2, 3)) > 0))
    assert not rows[:, int(eyes) :].any()


def test_a_run_that_begins_without_a_person_anchors_to_edits_with_it(tmp_path):
    plain = make(tmp_path)
    plain.save("last.pt")
    settings = {"requests": {"emphasis": {"Smiling": 2.0}}, "loss": {"anchor": 1.0}, "model": {"person_channels": 8}}
    trainer = make(tmp_path, **settings)
    trainer.warm_start(tmp_path / "last.pt")
    run(trainer, 3)
    ours, theirs = trainer.average.person.state_dict(), trainer.reference.person.state_dict()
    assert all(torch.equal(ours[name], value) for name, value in theirs.items())


def test_fit_writes_checkpoints_and_sheets_that_an_export_can_read(tmp_path):
    trainer = make(tmp_path)
    assert trainer.fit()
    assert [p.name for p in sorted((tmp_path / "samples").iterdir())] == ["step-0000004.png", "step-0000008.png"]
    editor, settings, state = load_editor(tmp_path / "last.pt")
    assert state["step"] == 8
    assert settings == trainer.config
    image, change = torch.rand(1, 3, 32, 32), torch.ones(1, len(NAMES))
    assert torch.equal(editor(image, change).mask, trainer.average(image, change).mask)


def test_a_batch_in_several_passes_loses_what_it_loses_in_one(tmp_path):
    whole, parts = make(tmp_path), make(tmp_path, train={"micro_batch": 3})
    for ours, theirs in zip(run(parts, 4), run(whole, 4), strict=True):
        for name, value in theirs.items():
            assert ours[name] == pytest.approx(value, rel=2e-2, abs=1e-4), name


def test_a_run_that_diverges_stops_and_says_where(tmp_path):
    trainer = make(tmp_path, train={"learning_rate": 1e30})
    trainer.save("last.pt")
    with pytest.raises(
        DivergedError, match=r"step \d+: training the (Editor|Opponent) diverged .*last\.pt is the last"
    ):
        run(trainer, 8)


def test_a_checkpoint_of_another_stage_is_refused(tmp_path):
    trainer = make(tmp_path)
    trainer.save("last.pt")
    with pytest.raises(checkpoint.CheckpointError, match="stage 'editor', expected 'vae'"):
        checkpoint.load_model(tmp_path / "last.pt")


def test_the_region_of_edits_is_around_the_face_and_on_the_person(tmp_path):
    trainer = make(tmp_path)
    region, face = trainer.ellipse[0, 0], trainer.face_ellipse[0, 0]
    assert region[16, 16] == face[16, 16] == 1
    assert region[0, 0] == region[0, -1] == region[-1, 0] == region[-1, -1] == 0
    assert face.sum() < region.sum()
    near = trainer._near(torch.tensor([False, True]))
    assert torch.equal(near[:, 0], torch.stack([region, face]))
    mask = np.zeros((1, 16, 16), dtype=np.uint8)
    assert trainer._person(mask).max() == 0
    mask[0, 8, 8] = 255
    person = trainer._person(mask)[0, 0]
    assert person[14:20, 14:20].min() == 1  # one of its own pixels, and two around it
    assert person.sum() == 36


def test_a_cut_moves_pixels_and_masks_together():
    found = faces(2, 40, seed=2)
    shifts, mirrored = np.array([[2, -4], [0, 0]]), np.array([False, True])
    cut = found.cut(32, shifts, mirrored)
    assert np.array_equal(cut.pixels[0], found.pixels[0, 6:38, 0:32])
    assert np.array_equal(cut.person[0], found.person[0, 3:19, 0:16])
    assert np.array_equal(cut.pixels[1], found.pixels[1, 4:36, 4:36][:, ::-1])
    assert np.array_equal(cut.person[1], found.person[1, 2:18, 2:18][:, ::-1])
    assert isinstance(found.first(1), EditorFaces)
