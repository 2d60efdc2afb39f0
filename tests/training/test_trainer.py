import json
import math
import os
import signal
import subprocess
import sys
import threading

import numpy as np
import pytest
import torch

from tests import painter
from tests.training.steps import run
from tests.training.trainers import OVERRIDES, TINY, make_trainer
from training import checkpoint
from training.data import shards
from training.pixels import to_model, to_pixels
from training.vae import erasure


@pytest.fixture(scope="module")
def faces(tmp_path_factory):
    root = painter.write_dataset(tmp_path_factory.mktemp("few"), train=32, validation=8)
    return root, tmp_path_factory.mktemp("cache")


def make(faces, directory, *overrides):
    return make_trainer(*faces, directory, *overrides)


def test_a_resumed_run_repeats_the_uninterrupted_one(faces, tmp_path):
    straight = make(faces, tmp_path)
    expected = run(straight, 10)
    interrupted = make(faces, tmp_path)
    run(interrupted, 6)  # the second epoch has begun
    interrupted.save("last.pt")
    resumed = make(faces, tmp_path)
    resumed.resume(tmp_path / "last.pt")
    assert run(resumed, 4) == expected[6:]
    for ours, theirs in zip(resumed.ema.parameters(), straight.ema.parameters(), strict=True):
        assert torch.equal(ours, theirs)


def test_an_epoch_ends_with_latents_that_tell_nothing_linearly(faces, tmp_path):
    trainer = make(faces, tmp_path, "train.epochs=1", "train.erasure_ridge=0.0")
    assert trainer.fit()
    centre = trainer.source.pixels[:, 2:-2, 2:-2]
    unknown = torch.full((len(centre), len(trainer.source.attributes)), torch.nan)
    found = trainer.ema.encode(to_model(centre), unknown)
    weight, bias = erasure.regress(found.mean.detach(), found.attributes, 0.0)
    assert weight.abs().max() < 1e-4
    assert bias.abs().max() < 1e-4


def test_fit_writes_checkpoints_scalars_and_grids(faces, tmp_path):
    trainer = make(faces, tmp_path)
    assert trainer.fit()
    assert trainer.step == 12
    written = {path.name for path in tmp_path.iterdir()}
    assert written == {"last.pt", "best.pt", "samples", "tensorboard"}
    assert [p.name for p in sorted((tmp_path / "samples").iterdir())] == [f"epoch-000{n}.png" for n in (1, 2, 3)]
    assert any((tmp_path / "tensorboard").iterdir())
    best = checkpoint.load(tmp_path / "best.pt")
    assert best["best_score"] == checkpoint.load(tmp_path / "last.pt")["best_score"]


def test_best_is_kept_when_later_epochs_are_worse(faces, tmp_path):
    trainer = make(faces, tmp_path)
    scores = iter([1.0, 0.5, 2.0])
    trainer.score = lambda values: next(scores)
    trainer.fit()
    assert checkpoint.load(tmp_path / "best.pt")["step"] == 8
    assert checkpoint.load(tmp_path / "last.pt")["step"] == 12


def test_critic_and_classifier_may_be_clipped_apart(faces, tmp_path):
    norms = {}
    for apart in ("true", "false"):
        trainer = make(faces, tmp_path, f"train.clip_apart={apart}", "train.gradient_clip=0.001")
        trainer.opponent_optimiser.step = lambda *_: None  # what is looked at stays
        (lost,) = run(trainer, 1)
        parts = [
            torch.stack([p.grad.norm() for p in part.parameters()]).norm().item()
            for part in (trainer.opponent.critic, trainer.opponent.classifier)
        ]
        norms[apart] = lost["opponent_gradient_norm"], parts
    assert norms["true"][1] == pytest.approx([0.001, 0.001], rel=1e-3)
    assert sum(part**2 for part in norms["false"][1]) ** 0.5 == pytest.approx(0.001, rel=1e-3)
    assert norms["true"][0] == pytest.approx(norms["false"][0], rel=1e-4)


def test_the_bound_is_that_of_a_sample_and_repeats(faces, tmp_path):
    trainer = make(faces, tmp_path)
    run(trainer, 4)
    first, _ = trainer.validate()
    again, _ = trainer.validate()
    assert first == again
    assert first["sampled_mse"] > first["mse"]
    size = 3 * 32**2
    assert first["score"] == pytest.approx(0.5 * math.log(first["sampled_mse"]) + first["kl"] / size)


def test_the_learning_rate_warms_up_and_decays(faces, tmp_path):
    trainer = make(faces, tmp_path, "train.warmup_steps=4", "train.final_learning_rate=0.1")
    rates = []
    for step in range(12):
        trainer.step = step
        trainer._set_learning_rates()
        rates.append(trainer.optimiser.param_groups[0]["lr"])
    assert rates[0] < rates[1] < rates[2] < rates[3]
    assert rates[4:] == sorted(rates[4:], reverse=True)
    assert 0.1 * 2e-3 < rates[-1] < 0.2 * 2e-3


def test_a_checkpoint_of_another_configuration_is_refused_by_key(faces, tmp_path):
    make(faces, tmp_path).save("last.pt")
    other = make(faces, tmp_path, "loss.beta=4.0")
    with pytest.raises(checkpoint.CheckpointError, match=r"loss\.beta: 1\.0 there, 4\.0 here"):
        other.resume(tmp_path / "last.pt")


def test_what_changes_no_result_of_the_steps_until_then_may_change(faces, tmp_path):
    first = make(faces, tmp_path)
    run(first, 2)
    first.save("last.pt")
    overrides = ["train.epochs=9", "train.checkpoint_minutes=1.5", "train.validate_every=2", "train.micro_batch=4"]
    second = make(faces, tmp_path, *overrides, 'name="other"')
    assert sorted(second.resume(tmp_path / "last.pt")) == [
        "name: 'painted' there, 'other' here",
        "train.checkpoint_minutes: 5.0 there, 1.5 here",
        "train.epochs: 3 there, 9 here",
        "train.micro_batch: None there, 4 here",
        "train.validate_every: 1 there, 2 here",
    ]
    assert (second.step, second.total_steps) == (2, 36)
    second.save("last.pt")
    assert checkpoint.load(tmp_path / "last.pt")["config"]["train"]["epochs"] == 9


@pytest.mark.parametrize("part", ["model", "opponent", "optimiser", "opponent_optimiser", "difficulty", "step"])
def test_a_checkpoint_that_lacks_a_part_is_not_resumed(faces, tmp_path, part):
    trainer = make(faces, tmp_path)
    trainer.save("last.pt")
    state = checkpoint.load(tmp_path / "last.pt")
    del state[part]
    checkpoint.save(tmp_path / "last.pt", state)
    with pytest.raises(checkpoint.CheckpointError, match=rf"last\.pt: cannot be used: has no '{part}'"):
        trainer.resume(tmp_path / "last.pt")


def test_a_checkpoint_of_other_data_is_refused(faces, tmp_path):
    trainer = make(faces, tmp_path)
    trainer.save("last.pt")
    trainer.source.index.labels[0, 0] *= -1
    try:
        with pytest.raises(checkpoint.CheckpointError, match="other pictures or labels"):
            trainer.resume(tmp_path / "last.pt")
    finally:
        trainer.source.index.labels[0, 0] *= -1


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", b"PK\x03\x04 half a zip"])
def test_a_damaged_checkpoint_is_refused_by_name(tmp_path, content):
    (tmp_path / "last.pt").write_bytes(content)
    with pytest.raises(checkpoint.CheckpointError, match=r"last\.pt: not a readable checkpoint"):
        checkpoint.load(tmp_path / "last.pt")


def test_a_failed_save_leaves_the_old_checkpoint_and_no_rubbish(tmp_path, monkeypatch):
    path = tmp_path / "last.pt"
    checkpoint.save(path, {"step": 1})

    def fail(*_):
        raise OSError("disk full")

    monkeypatch.setattr(torch, "save", fail)
    with pytest.raises(OSError, match="disk full"):
        checkpoint.save(path, {"step": 2})
    assert checkpoint.load(path)["step"] == 1
    assert list(tmp_path.iterdir()) == [path]


def test_interrupt_finishes_the_step_saves_and_stops(faces, tmp_path):
    trainer = make(faces, tmp_path)
    step = trainer.train_step

    def step_and_interrupt():
        values = step()
        if trainer.step == 2:
            os.kill(os.getpid(), signal.SIGINT)
        return values

    trainer.train_step = step_and_interrupt
    handler = signal.getsignal(signal.SIGINT)
    assert not trainer.fit()
    assert checkpoint.load(tmp_path / "last.pt")["step"] == trainer.step < trainer.total_steps
    assert signal.getsignal(signal.SIGINT) == handler


def test_pixels_survive_the_round_trip():
    pixels = np.random.default_rng(0).integers(0, 256, (2, 4, 4, 3), dtype=np.uint8)
    pixels.flags.writeable = False
    assert np.array_equal(to_pixels(to_model(pixels)), pixels)


def _command(faces, run, *more, overrides=()):
    root, cache = faces
    sets = [word for item in (*OVERRIDES, *overrides) for word in ("--set", item)]
    where = ["--data", str(root), "--cache", str(cache), "--workdir", str(run)]
    return ["training", "fit", "--preset", TINY, *sets, *where, *more]


def _environment():
    return {**os.environ, "OMP_NUM_THREADS": "1"}


def test_a_killed_run_resumes_from_the_command_line(faces, tmp_path):
    """SIGKILL in mid-epoch: what was checkpointed survives whole, and --resume reaches the end."""
    run = tmp_path / "run"
    endless = ["train.epochs=4000", "train.checkpoint_minutes=0", "train.validate_every=4000"]
    command = [sys.executable, "-m", *_command(faces, run), *(w for item in endless for w in ("--set", item))]
    process = subprocess.Popen(command, env=_environment(), stderr=subprocess.PIPE)
    try:
        drain = threading.Thread(target=process.stderr.read)
        drain.start()
        while not (run / "last.pt").exists():
            assert process.poll() is None
            drain.join(0.05)
    finally:
        process.kill()
        process.wait()
        drain.join()
        process.stderr.close()
    reached = checkpoint.load(run / "last.pt")["step"]
    assert reached >= 1
    resumed = subprocess.Popen([*command, "--resume"], env=_environment(), stderr=subprocess.DEVNULL)
    try:
        while checkpoint.load(run / "last.pt")["step"] <= reached + 2:
            assert resumed.poll() is None
    finally:
        resumed.terminate()
    assert resumed.wait() == 130  # SIGTERM stops as cleanly as Ctrl-C
    refused = subprocess.run([sys.executable, "-m", *_command(faces, run)], env=_environment(), capture_output=True)
    assert refused.returncode == 2
    assert b"last.pt: exists; pass --resume" in refused.stderr
    assert b"Traceback" not in refused.stderr


def _torchrun(*words):
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m", *words]
    result = subprocess.run(command, env=_environment(), capture_output=True, text=True)
    assert result.returncode == 0, result.stderr


def test_two_processes_train_like_one(faces, tmp_path):
    """The same global batch over two processes gives the same weights, up to the order of sums."""
    _torchrun(*_command(faces, tmp_path / "two"))
    one = make(faces, tmp_path / "one")
    one.fit()
    two = checkpoint.load(tmp_path / "two" / "last.pt")
    assert two["step"] == one.step
    for name, value in one.model.state_dict().items():
        torch.testing.assert_close(two["model"][name], value, rtol=0.05, atol=1e-3, msg=lambda m, n=name: f"{n}: {m}")


EDITS = ["loss.edit_warmup_steps=0", "loss.kl_warmup_steps=0", "train.warmup_steps=0"]  # at full weight at once


@pytest.fixture(scope="module")
def sharded(faces, tmp_path_factory):
    out = tmp_path_factory.mktemp("sharded") / "shards"
    shards.write(faces[0], out, pictures=5)
    return out, faces[1]


def _close(found, expected, apart=0):
    """Losses of the same steps; the two runs have been `apart` for so many steps before.

    Sums in another order differ in the last place, and each step multiplies that: from 1e-7 to some 1e-3 in five steps,
    measured, and ten times as much in the gradient's norm.
    """
    assert len(found) == len(expected) > 0
    for step, (ours, theirs) in enumerate(zip(found, expected, strict=True), apart):
        for name, value in theirs.items():
            allowed = (1e-3 if step < 3 else 1e-2) * (5 if name == "gradient_norm" else 1)
            assert ours[name] == pytest.approx(value, rel=allowed, abs=1e-6), f"step {step}: {name}"


def test_the_number_of_processes_may_change_in_the_middle_of_an_epoch(sharded, tmp_path):
    """One process, two, one that goes on as two, and two that go on as one: all lose the same in every step.

    All terms count, edits among them, over shards in two windows an epoch.
    """
    overrides = [*EDITS, "data.shuffle_window=20"]
    straight = make(sharded, tmp_path, *overrides)
    expected = run(straight, 3)
    straight.save("one.pt")
    expected += run(straight, 4)
    task = {
        "data": str(sharded[0]),
        "cache": str(sharded[1]),
        "directory": str(tmp_path),
        "overrides": overrides,
        "runs": [
            {"resume": None, "steps": 5, "save": "two.pt", "losses": str(tmp_path / "two.json")},
            {"resume": str(tmp_path / "one.pt"), "steps": 3, "save": None, "losses": str(tmp_path / "one-two.json")},
        ],
    }
    _torchrun("tests.training.steps", json.dumps(task))
    _close(json.loads((tmp_path / "two.json").read_text()), expected[:5])
    _close(json.loads((tmp_path / "one-two.json").read_text()), expected[3:6])
    resumed = make(sharded, tmp_path, *overrides)
    resumed.resume(tmp_path / "two.pt")
    _close(run(resumed, 2), expected[5:], apart=5)
    for ours, theirs in (
        (resumed.difficulty.disbelief, straight.difficulty.disbelief),
        (resumed.target_confidence.logits, straight.target_confidence.logits),
    ):
        torch.testing.assert_close(ours.values, theirs.values, rtol=1e-2, atol=1e-4)
    assert (straight.difficulty.disbelief.values != 1).any()


@pytest.mark.parametrize("most", [4, 3, 1])
def test_a_batch_in_several_passes_loses_what_it_loses_in_one(faces, tmp_path, most):
    whole, parts = make(faces, tmp_path, *EDITS), make(faces, tmp_path, *EDITS, f"train.micro_batch={most}")
    _close(run(parts, 3), run(whole, 3))
    for ours, theirs in ((parts.model, whole.model), (parts.opponent, whole.opponent)):
        for name, value in theirs.state_dict().items():
            # Single weights whose gradient is next to nothing may go apart: Adam makes full steps of them.
            difference = (ours.state_dict()[name] - value).norm()
            assert difference <= 0.01 * value.norm() + 1e-4 * value.numel() ** 0.5, name
    _close(run(parts, 2), run(whole, 2), apart=3)


def test_passes_that_knew_only_their_own_error_would_lose_something_else(faces, tmp_path):
    """The likelihood is a logarithm over the whole batch: what the pass over all of it beforehand is for."""
    whole, parts = make(faces, tmp_path), make(faces, tmp_path, "train.micro_batch=1")
    parts._variance = lambda *_: None
    expected, found = run(whole, 1)[0], run(parts, 1)[0]
    assert abs(found["nll"] - expected["nll"]) > 1e-3
    assert found["mse"] == pytest.approx(expected["mse"], rel=1e-5)


def test_a_run_may_go_on_in_smaller_passes(faces, tmp_path):
    whole = make(faces, tmp_path)
    run(whole, 2)
    whole.save("last.pt")
    smaller = make(faces, tmp_path, "train.micro_batch=2")
    smaller.resume(tmp_path / "last.pt")
    _close(run(smaller, 2), run(whole, 2))


def test_a_run_on_shards_repeats_after_an_interruption(sharded, tmp_path):
    straight = make(sharded, tmp_path, "data.shuffle_window=12")
    expected = run(straight, 7)
    interrupted = make(sharded, tmp_path, "data.shuffle_window=12")
    run(interrupted, 5)  # in the middle of the second epoch, and of a window
    interrupted.save("last.pt")
    resumed = make(sharded, tmp_path, "data.shuffle_window=12")
    resumed.resume(tmp_path / "last.pt")
    assert run(resumed, 2) == expected[5:]
