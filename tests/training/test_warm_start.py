"""Beginning with the weights of another run or of a bundle: by name, by shape, and by the names of attributes."""

from pathlib import Path

import pytest
import torch

from service.bundle.manifest import BundleError
from tests import painter
from tests.training.editor.networks import config as editor_config
from tests.training.editor.test_trainer import make as make_editor
from tests.training.trainers import make_trainer
from tests.training.vae.test_model import CONFIG
from training import checkpoint, warm_start
from training.checkpoint import CheckpointError
from training.config import FlowModelConfig
from training.editor.model import Editor
from training.editor.objective import Opponent as EditorOpponent
from training.flow.model import FlowPrior
from training.vae.model import ConditionalVAE, Opponent

SHIPPED = Path(__file__).parents[2] / "bundles" / "celeba128"


@pytest.fixture(scope="module")
def faces(tmp_path_factory):
    root = painter.write_dataset(tmp_path_factory.mktemp("few"), train=32, validation=8)
    return root, tmp_path_factory.mktemp("cache")


def networks(count):
    """One of each that is trained, for so many attributes, without memory for its weights."""
    settings = editor_config()
    with torch.device("meta"):
        return {
            "vae": ConditionalVAE(CONFIG.model, 32, count),
            "opponent": Opponent(CONFIG.opponent.channels, 32, count),
            "editor": Editor(settings.model, 32, count),
            "editor's opponent": EditorOpponent(
                settings.opponent.model_copy(update={"regions": [(0, 0, 16, 16)]}), count
            ),
            "prior": FlowPrior(FlowModelConfig(), 12, count),
        }


@pytest.mark.parametrize("name", ["vae", "opponent", "editor", "editor's opponent", "prior"])
def test_the_axes_of_attributes_are_those_that_grow_with_their_number(name):
    fewer, more = (networks(count)[name].state_dict() for count in (5, 6))
    for parameter, value in more.items():
        axes = [axis for axis, size in enumerate(value.shape) if size != fewer[parameter].shape[axis]]
        expected = warm_start.attribute_axis(parameter)
        assert axes == ([] if expected is None else [expected]), parameter


def test_columns_go_with_the_names_of_attributes():
    own = {"condition.0.weight": torch.zeros(2, 5), "gain": torch.zeros(3), "other": torch.zeros(2)}
    given = {
        "condition.0.weight": torch.arange(8.0).view(2, 4) + 1,
        "gain": torch.tensor([5.0, 6.0]),
        "other": torch.ones(3),
    }
    found, missing = warm_start.fitted(own, given, ["new", "b", "a"], ["a", "b"])
    assert found["condition.0.weight"].tolist() == [[1, 2, 0, 4, 3], [5, 6, 0, 8, 7]]  # two that are no attributes
    assert found["gain"].tolist() == [0, 6, 5]
    assert missing == ["other"]
    assert own["gain"].tolist() == [0, 0, 0]


def test_a_run_begins_with_another_runs_weights(faces, tmp_path):
    first = make_trainer(*faces, tmp_path)
    first.save("first.pt")
    second = make_trainer(*faces, tmp_path, "train.seed=9")
    assert second.warm_start(tmp_path / "first.pt") == []
    for part, module in second.trained().items():
        for name, value in module.state_dict().items():
            assert torch.equal(value, first.trained()[part].state_dict()[name]), name
    assert second.step == 0


def test_attributes_that_both_runs_have_keep_their_columns(faces, tmp_path):
    first = make_trainer(*faces, tmp_path)
    first.save("first.pt")
    names = ["Smiling", "Pale_Skin", "Black_Hair"]  # other places than in the first run
    second = make_trainer(*faces, tmp_path, f"data.attributes={names}".replace("'", '"'), "train.seed=9")
    assert second.warm_start(tmp_path / "first.pt") == []
    old, new = first.config.data.attributes, second.model.state_dict()
    for place, name in enumerate(names):
        assert torch.equal(new["shift.weight"][:, place], first.model.state_dict()["shift.weight"][:, old.index(name)])


def test_what_is_new_is_reported_and_stays_as_it_is(faces, tmp_path):
    first = make_trainer(*faces, tmp_path, 'data.attributes=["Smiling", "Eyeglasses"]')
    first.save("first.pt")
    second = make_trainer(*faces, tmp_path, 'data.attributes=["Wearing_Hat", "Smiling"]', "model.condition_size=24")
    before = second.model.state_dict()["shift.weight"].clone()
    missing = second.warm_start(tmp_path / "first.pt")
    assert missing[0] == "the attribute Wearing_Hat"
    assert "model.decoder.condition.0.weight" in missing  # of another width
    assert "model.encoder.stem.weight" not in missing
    after = second.model.state_dict()["shift.weight"]
    assert torch.equal(after[:, 0], before[:, 0])
    assert torch.equal(after[:, 1], first.model.state_dict()["shift.weight"][:, 0])


def test_a_checkpoint_of_another_stage_is_no_beginning(faces, tmp_path):
    make_editor(tmp_path).save("editor.pt")
    with pytest.raises(CheckpointError, match="is a checkpoint of the stage 'editor', expected 'vae'"):
        make_trainer(*faces, tmp_path).warm_start(tmp_path / "editor.pt")


def test_an_editor_begins_with_that_of_a_shipped_bundle(tmp_path):
    shipped = warm_start.config_of_bundle(SHIPPED, "editor")
    trainer = make_editor(tmp_path, model=shipped.model.model_dump())
    missing = trainer.warm_start(SHIPPED)
    assert missing[-1] == "all of the opponent"  # which no bundle has
    assert all(name.startswith("the attribute") for name in missing[:-1])
    names = shipped.data.attributes
    expected = warm_start.read(SHIPPED, "editor", trainer.editor).parts["model"]
    for module in (trainer.editor, trainer.average):
        state = module.state_dict()
        assert torch.equal(state["up1.1.norm2.weight"], expected["up1.1.norm2.weight"])
        for place, name in enumerate(trainer.config.data.attributes):
            column = expected["condition.0.weight"][:, names.index(name)]
            assert torch.equal(state["condition.0.weight"][:, place], column)


def test_a_bundle_without_an_editor_is_no_beginning_of_one(tmp_path):
    with pytest.raises(BundleError, match=r"celeba64: has no editor\.onnx, which the stage 'editor' begins with"):
        make_editor(tmp_path).warm_start(SHIPPED.with_name("celeba64"))


def test_a_damaged_bundle_is_no_beginning(tmp_path):
    (tmp_path / "manifest.json").write_text("{}")
    with pytest.raises(BundleError, match=r"manifest\.json"):
        make_editor(tmp_path).warm_start(tmp_path)


def test_a_checkpoint_without_weights_is_refused(faces, tmp_path):
    trainer = make_trainer(*faces, tmp_path)
    state = {"config": trainer.config.model_dump(mode="json")}
    checkpoint.save(tmp_path / "empty.pt", state)
    with pytest.raises(CheckpointError, match=r"empty\.pt: holds no weights"):
        trainer.warm_start(tmp_path / "empty.pt")


def test_a_calibrated_checkpoint_gives_its_averaged_weights_to_both(faces, tmp_path):
    first = make_trainer(*faces, tmp_path)
    average = first.trained()["ema"].state_dict()
    average["shift.weight"] += 1
    checkpoint.save(tmp_path / "calibrated.pt", {"config": first.config.model_dump(mode="json"), "ema": average})
    second = make_trainer(*faces, tmp_path, "train.seed=9")
    assert second.warm_start(tmp_path / "calibrated.pt") == ["all of the opponent"]
    for part in ("model", "ema"):
        assert torch.equal(second.trained()[part].state_dict()["shift.weight"], average["shift.weight"])


def test_weights_that_are_no_tensors_are_refused_by_name(faces, tmp_path):
    trainer = make_trainer(*faces, tmp_path)
    weights = trainer.model.state_dict() | {"shift.weight": "none"}
    checkpoint.save(tmp_path / "odd.pt", {"config": trainer.config.model_dump(mode="json"), "model": weights})
    with pytest.raises(CheckpointError, match=r"odd\.pt: cannot be used: model\.shift\.weight is no tensor"):
        trainer.warm_start(tmp_path / "odd.pt")
