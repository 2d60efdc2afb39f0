"""What a checkpoint holds is checked: its bytes, its values and its shapes."""

import pytest
import torch
from torch import nn

from training import checkpoint, config, judge
from training.checkpoint import CheckpointError
from training.vae.model import ConditionalVAE


@pytest.fixture
def run(tmp_path):
    """The path of a small VAE's checkpoint."""
    settings = config.load("tests/training/tiny.toml")
    torch.manual_seed(0)
    model = ConditionalVAE(settings.model, settings.data.image_size, len(settings.data.attributes))
    state = {
        "ema": model.state_dict(),
        "config": settings.model_dump(mode="json"),
        "best_score": float("inf"),
        "epochs": 1.0,
        "data_sha256": "0" * 64,
        "command": "fit",
    }
    checkpoint.save(tmp_path / "last.pt", state)
    return tmp_path / "last.pt"


def changed(path, change):
    """The checkpoint after `change` of its state, written as older code did, without a sha256."""
    state = checkpoint.load(path)
    change(state)
    torch.save(state, path)
    return path


def test_what_was_written_is_read(run):
    model, settings, state = checkpoint.load_model(run)
    assert settings.name == "painted"
    assert all(torch.equal(value, state["ema"][name]) for name, value in model.state_dict().items())


def test_a_changed_weight_is_refused_with_both_hashes(run):
    weight = checkpoint.load(run)["ema"]["decoder.stem.weight"].numpy().tobytes()
    content = bytearray(run.read_bytes())
    place = content.find(weight)
    assert place > 0
    content[place + 3] ^= 0x03  # the exponent of one weight
    run.write_bytes(content)
    with pytest.raises(
        CheckpointError, match=r"last\.pt: the file was changed or damaged: its sha256 is \w{64}, it says"
    ):
        checkpoint.load(run)


def test_a_checkpoint_of_older_code_is_read(run):
    changed(run, lambda state: None)
    assert "sha256" not in torch.load(run, weights_only=True)
    checkpoint.load_model(run)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_values_that_are_not_finite_are_refused_by_name(run, value):
    changed(run, lambda state: state["ema"]["decoder.stem.weight"].view(-1)[3].fill_(value))
    with pytest.raises(CheckpointError, match=r"last\.pt: ema\.decoder\.stem\.weight holds values that are not finite"):
        checkpoint.load_model(run)


def test_a_missing_tensor_is_named(run):
    changed(run, lambda state: state["ema"].pop("decoder.stem.weight"))
    with pytest.raises(CheckpointError, match=r"last\.pt: .*ema\.decoder\.stem\.weight is missing"):
        checkpoint.load_model(run)


def test_a_wrong_shape_is_named(run):
    changed(run, lambda state: state["ema"].update({"gain": torch.ones(5)}))
    with pytest.raises(CheckpointError, match=r"ema\.gain has the shape \(5,\); the network has \(6,\)"):
        checkpoint.load_model(run)


def test_an_unknown_tensor_is_named(run):
    changed(run, lambda state: state["ema"].update({"extra": torch.ones(5)}))
    with pytest.raises(CheckpointError, match=r"ema\.extra is not part of the network"):
        checkpoint.load_model(run)


@pytest.mark.parametrize("key", ["ema", "epochs", "data_sha256", "command"])
def test_a_missing_part_is_named(run, key):
    changed(run, lambda state: state.pop(key))
    with pytest.raises(CheckpointError, match=rf"last\.pt: cannot be used: has no '{key}'"):
        checkpoint.load_model(run)


def test_an_optimiser_of_other_parameters_is_refused():
    first, second = nn.Linear(3, 2), nn.Linear(4, 2)
    optimiser = torch.optim.AdamW(first.parameters())
    first(torch.ones(1, 3)).sum().backward()
    optimiser.step()
    with pytest.raises(CheckpointError, match=r"optimiser: exp_avg has the shape \(2, 3\) of other parameters"):
        checkpoint.load_optimiser(
            torch.optim.AdamW(second.parameters()), {"optimiser": optimiser.state_dict()}, "optimiser", "last.pt"
        )


def test_a_judge_with_a_missing_part_is_refused(tmp_path):
    one = judge.Judge(["Bald"], 32)
    checkpoint.save(tmp_path / "judge.pt", {"judge": one.state_dict(), "attributes": ["Bald"], "image_size": 32})
    with pytest.raises(CheckpointError, match=r"judge\.pt: cannot be used: has no 'facts'"):
        judge.load_judge(tmp_path / "judge.pt")
    torch.save({**checkpoint.load(tmp_path / "judge.pt"), "facts": {}, "image_size": 96}, tmp_path / "judge.pt")
    with pytest.raises(CheckpointError, match=r"judge\.pt: cannot be used: judge\..* is missing"):
        judge.load_judge(tmp_path / "judge.pt")


def test_a_hash_is_of_content_and_not_of_memory_layout():
    image = torch.randn(2, 3, 4, 4)
    last = image.to(memory_format=torch.channels_last)
    assert checkpoint.sha256({"a": image, "b": [1, 2.0]}) == checkpoint.sha256({"a": last, "b": (1, 2.0)})
    assert checkpoint.sha256({"a": image}) != checkpoint.sha256({"b": image})
    assert checkpoint.sha256({"a": image}) != checkpoint.sha256({"a": image.reshape(3, 2, 4, 4)})


def test_a_configuration_that_is_missing_or_incomplete_is_said_so(run):
    changed(run, lambda state: state.update(config={"stage": "vae"}))
    with pytest.raises(CheckpointError, match=r"last\.pt: its configuration cannot be used: name: is missing"):
        checkpoint.load_model(run)
