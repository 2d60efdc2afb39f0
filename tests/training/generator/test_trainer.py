import numpy as np
import pytest
import torch

from tests.training.editor.networks import features
from training import checkpoint
from training.config import FlowModelConfig, load, parse
from training.data.dataset import Faces
from training.flow.model import FlowPrior
from training.generator import objective
from training.generator.trainer import GeneratorTrainer
from training.vae.model import ConditionalVAE

TINY = load("tests/training/tiny.toml")
NAMES, SIZE = TINY.data.attributes, TINY.data.image_size
COUNT, MARGIN = len(NAMES), TINY.data.margin


class Source:
    """Noise with labels that no index lists."""

    def __init__(self, count):
        rng = np.random.default_rng(0)
        side = SIZE + 2 * MARGIN
        self.attributes = NAMES
        self.faces = Faces(
            rng.integers(0, 256, (count, side, side, 3), dtype=np.uint8),
            rng.choice(np.array([-1, 1], dtype=np.int8), (count, COUNT)),
        )

    def __len__(self):
        return len(self.faces.pixels)

    def frequencies(self):
        return (self.faces.labels > 0).mean(0).astype(np.float32)

    def digest(self):
        return "0" * 64

    def order(self, seed, epoch, start, stop):
        return np.random.default_rng([seed, epoch]).permutation(len(self))[start:stop]

    def read(self, rows):
        return Faces(self.faces.pixels[rows], self.faces.labels[rows])


def make(directory, head_start=1, regions=(), **train):
    settings = parse(
        {
            "stage": "generator",
            "name": "tiny",
            "data": TINY.data.model_dump(),
            "opponent": {
                "critic_width": 8,
                "classifier_width": 8,
                "crop": 32,
                "head_start_steps": head_start,
                "regions": list(regions),
            },
            "train": {"steps": 6, "batch_size": 4, "validate_every": 3, "precision": "fp32"} | train,
        }
    )
    torch.manual_seed(0)
    model = ConditionalVAE(TINY.model, SIZE, COUNT).eval()
    prior = FlowPrior(FlowModelConfig(width=8, blocks=1, condition_size=8, steps=2), model.latent_size, COUNT)
    source = Source(16)
    held_out = Faces(source.faces.pixels[:8, MARGIN:-MARGIN, MARGIN:-MARGIN], source.faces.labels[:8])
    return GeneratorTrainer(settings, source, held_out, model, prior, features(), directory, torch.device("cpu"))


def run(trainer, steps):
    return [{name: float(value) for name, value in trainer.train_step().items()} for _ in range(steps)]


def changed(before, module):
    return {name for name, value in module.state_dict().items() if not torch.equal(before[name], value)}


def test_the_decoder_learns_and_everything_before_the_latent_stays(tmp_path):
    trainer = make(tmp_path)
    before = {name: value.clone() for name, value in trainer.model.state_dict().items()}
    run(trainer, 4)
    moved = changed(before, trainer.model)
    assert {name.partition(".")[0] for name in moved} == {"decoder", "shift"}
    learning = {name for name, value in trainer.model.named_parameters() if value.requires_grad}
    assert moved == learning


def test_critic_and_classifier_have_a_head_start(tmp_path):
    trainer = make(tmp_path)
    before = {name: value.clone() for name, value in trainer.model.state_dict().items()}
    critic = {name: value.clone() for name, value in trainer.opponent.state_dict().items()}
    (first,) = run(trainer, 1)
    assert changed(before, trainer.model) == set()
    assert changed(critic, trainer.opponent)
    assert set(first) == {"opponent_gradient_norm", "opponent_loss", "critic", "classifier"}
    (second,) = run(trainer, 1)
    assert {"adversarial", "attributes", "pixels", "features"} <= set(second)


def test_a_resumed_run_repeats_the_uninterrupted_one(tmp_path):
    expected = run(make(tmp_path), 5)
    interrupted = make(tmp_path)
    run(interrupted, 3)
    interrupted.save("last.pt")
    resumed = make(tmp_path)
    resumed.resume(tmp_path / "last.pt")
    assert run(resumed, 2) == expected[3:]


@pytest.mark.parametrize("micro_batch", [1, 2, 3])
def test_passes_of_a_batch_add_up_to_the_whole(tmp_path, micro_batch):
    whole, parts = (make(tmp_path, 0, [(8, 8, 24, 24)], micro_batch=size) for size in (None, micro_batch))
    (expected,), (found,) = run(whole, 1), run(parts, 1)
    for name, value in expected.items():
        assert found[name] == pytest.approx(value, rel=1e-3), name


def test_fit_writes_a_model_that_an_export_can_read(tmp_path):
    trainer = make(tmp_path)
    assert trainer.fit()
    assert [p.name for p in sorted((tmp_path / "samples").iterdir())] == ["step-0000003.png", "step-0000006.png"]
    state = checkpoint.load(tmp_path / "last.pt")
    ConditionalVAE(TINY.model, SIZE, COUNT).load_state_dict(state["ema"])


def test_a_region_has_a_critic_of_its_own(tmp_path):
    trainer = make(tmp_path, head_start=0, regions=[(8, 8, 24, 24)])
    critic = {name: value.clone() for name, value in trainer.opponent.region_critics.state_dict().items()}
    (found,) = run(trainer, 1)
    assert {"adversarial_0", "critic_0"} <= set(found)
    assert changed(critic, trainer.opponent.region_critics) == set(critic)


def test_equal_features_have_no_distance():
    one = [torch.rand(2, 3, 4, 4), torch.rand(2, 5, 2, 2)]
    assert objective.feature_distance(one, one) == 0
    other = [x + 0.5 * x.mean((1, 2, 3), keepdim=True) for x in one]
    assert objective.feature_distance(one, other).item() == pytest.approx(0.5)
