"""The judge: an attribute classifier that no training loss has seen, to say whether an edit shows.

It shares neither seed, architecture nor parameters with the opponents that models train against: a residual network
with batch normalisation and average pooling (He et al. 2016), trained from scratch. Its checkpoint says how it wants
faces framed, and at which logit each attribute's two errors on held-out faces are equal.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from tqdm import tqdm

from training import checkpoint, files, metrics
from training.config import ConfigError, DataConfig
from training.data.dataset import FaceIndex, augmented
from training.pixels import to_model
from training.precision import autocast
from training.trainer import DivergedError

# Channels and residual blocks of each stage; each but the first halves the picture.
Stages = tuple[tuple[int, int], ...]
_SMALL: Stages = ((32, 2), (64, 2), (128, 2), (192, 2))
# For pictures of 96 pixels and more, whose stem halves them twice: hair and glasses take more layers than pixels.
_LARGE: Stages = ((32, 1), (64, 2), (128, 2), (256, 2))
_LARGE_FROM = 96
_WARMUP = 0.2  # share of the steps in which the learning rate rises
_REPORT_EVERY = 20  # steps
_DULLED = 0.25  # share of the pictures that lose fine detail, so that no codec's traces become a cue
_GREY = 0.1  # share of the pictures that lose their colour


class _Residual(nn.Module):
    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(outputs)
        self.shortcut = nn.Identity() if stride == 1 and inputs == outputs else nn.Conv2d(inputs, outputs, 1, stride)

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm2(self.conv2(F.relu(self.norm1(self.conv1(x)))))
        return F.relu(y + self.shortcut(x))


def _stem(image_size: int, width: int) -> nn.Module:
    if image_size < _LARGE_FROM:
        return nn.Conv2d(3, width, 5, stride=2, padding=2)
    first = nn.Conv2d(3, width // 2, 3, stride=2, padding=1, bias=False)
    second = nn.Conv2d(width // 2, width, 3, stride=2, padding=1)
    return nn.Sequential(first, nn.BatchNorm2d(width // 2), nn.ReLU(), second)


class Judge(nn.Module):
    """f32 [N, 3, S, S] in -1..1 to attribute logits f32 [N, K]; `features` gives f32 [N, F] for distances.

    `data` says how faces are framed for it, where that is known. `thresholds` f32 [K] are the logits above which an
    attribute counts as seen; 0 unless they were chosen on held-out faces (`equal_errors`).
    """

    def __init__(self, attributes: list[str], image_size: int, data: DataConfig | None = None) -> None:
        super().__init__()
        self.attribute_names, self.image_size, self.data = list(attributes), image_size, data
        self.thresholds = np.zeros(len(attributes), dtype=np.float32)
        stages = _SMALL if image_size < _LARGE_FROM else _LARGE
        width = stages[0][0]
        self.stem = _stem(image_size, width)
        blocks = []
        for outputs, count in stages:
            blocks.append(_Residual(width, outputs, 1 if width == outputs else 2))
            blocks += [_Residual(outputs, outputs, 1) for _ in range(count - 1)]
            width = outputs
        self.blocks = nn.Sequential(*blocks)
        self.head = nn.Sequential(nn.Dropout(0.2), nn.Linear(width, len(attributes)))

    def features(self, image: Tensor) -> Tensor:
        """Globally pooled features f32 [N, F] before the linear head; F = 192, or 256 from 96 pixels on."""
        return self.blocks(F.relu(self.stem(image))).mean(dim=(2, 3)).float()

    def forward(self, image: Tensor) -> Tensor:
        return self.head(self.features(image)).float()

    @torch.no_grad()
    def predict(self, pixels: np.ndarray, batch_size: int = 256) -> tuple[np.ndarray, np.ndarray]:
        """Logits f32 [N, K] and features f32 [N, F] of uint8 [N, S, S, 3]."""
        weight = next(self.parameters())
        logits, features = [], []
        for start in range(0, len(pixels), batch_size):
            batch = to_model(pixels[start : start + batch_size], weight.device)
            found = self.features(batch.contiguous(memory_format=torch.channels_last))
            features.append(found.cpu())
            logits.append(self.head(found).float().cpu())
        return torch.cat(logits).numpy(), torch.cat(features).numpy()


def train_judge(
    index: FaceIndex,
    pixels: np.ndarray,
    data: DataConfig,
    seed: int,
    epochs: int,
    device: torch.device,
    batch_size: int = 128,
    learning_rate: float = 2e-3,
    balance: float = 0,
) -> Judge:
    """Train on `pixels` uint8 [N, S + 2m, S + 2m, 3] with flips, shifts within the margin m and jittered colours.

    With `balance` both values of an attribute weigh the same in the loss: .5 / frequency, but at most `balance`; then
    some pictures also lose colour or fine detail. Without it every picture weighs the same.
    """
    torch.manual_seed(seed)
    rng = np.random.default_rng([seed, 99])
    size = data.image_size
    judge = Judge(index.attributes, size, data).to(device, memory_format=torch.channels_last)
    present = (index.labels > 0).astype(np.float32)
    labels, weights = torch.from_numpy(present), torch.from_numpy(value_weights(present, balance))
    if len(index) < 2:
        raise ConfigError(f"a judge needs at least 2 pictures, there are {len(index)}")
    batch_size = min(batch_size, len(index))
    steps = len(index) // batch_size * epochs
    optimiser = torch.optim.AdamW(judge.parameters(), lr=learning_rate, weight_decay=0.05)
    warmup = _WARMUP if steps * _WARMUP > 1 else 0.0  # a warm-up of one step is none, and a division by zero
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, learning_rate, total_steps=steps, pct_start=warmup)
    margin = (pixels.shape[1] - size) // 2
    bar = tqdm(total=steps, unit="step", mininterval=1.0)
    judge.train()
    for _ in range(epochs):
        order = rng.permutation(len(index))
        for start in range(0, len(order) - batch_size + 1, batch_size):
            rows = order[start : start + batch_size]
            offsets = rng.integers(0, 2 * margin + 1, size=(batch_size, 2))
            batch = to_model(augmented(pixels, rows, size, offsets, rng.random(batch_size) < 0.5), device)
            light = torch.from_numpy(rng.normal(0, 0.1, (2, batch_size, 1, 1, 1)).astype(np.float32)).to(device)
            batch = batch * (1 + light[0]) + light[1]
            if balance:
                batch = _recoloured(batch, rng)
            with autocast(device):
                logits = judge(batch.contiguous(memory_format=torch.channels_last))
            chosen = torch.from_numpy(rows)
            loss = F.binary_cross_entropy_with_logits(
                logits, labels[chosen].to(device), weight=weights[chosen].to(device)
            )
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            optimiser.step()
            schedule.step()
            bar.update()
            if bar.n % _REPORT_EVERY == 0 or bar.n == steps:
                value = loss.item()
                if not math.isfinite(value):
                    raise DivergedError(f"step {bar.n}: training the judge diverged (loss {value})")
                bar.set_postfix(loss=f"{value:.3f}")
    bar.close()
    return judge.eval()


def value_weights(present: np.ndarray, largest: float) -> np.ndarray:
    """.5 / frequency of each label's value in its column, at most `largest`; f32 [N, K] of f32 [N, K] in {0, 1}.

    With `largest` 0 all are 1.
    """
    if not largest:
        return np.ones_like(present)
    frequency = np.clip(present.mean(0), 1e-6, 1 - 1e-6)
    return np.where(present > 0, 0.5 / frequency, 0.5 / (1 - frequency)).clip(max=largest).astype(np.float32)


def _recoloured(batch: Tensor, rng: np.random.Generator) -> Tensor:
    """Another white balance for all of f32 [N, 3, S, S]; for some no colour at all, for some a slight blur."""
    count = len(batch)

    def drawn(values: np.ndarray) -> Tensor:
        return torch.from_numpy(values.astype(np.float32)).to(batch.device)

    batch = batch * (1 + drawn(rng.normal(0, 0.05, (count, 3, 1, 1)))) + drawn(rng.normal(0, 0.03, (count, 3, 1, 1)))
    grey = drawn(rng.random((count, 1, 1, 1)) < _GREY)
    batch = torch.lerp(batch, batch.mean(1, keepdim=True).expand_as(batch), grey)
    dulled = np.flatnonzero(rng.random(count) < _DULLED)
    if len(dulled):
        share = drawn(rng.random((len(dulled), 1, 1, 1)))
        blurred = F.avg_pool2d(F.pad(batch[dulled], (1, 1, 1, 1), mode="replicate"), 3, stride=1)
        batch[dulled] = torch.lerp(batch[dulled], blurred, share)
    return batch


def assess(judge: Judge, pixels: np.ndarray, labels: np.ndarray) -> dict[str, dict[str, float]]:
    """How well it sees each attribute of held-out faces, after its thresholds were set there to equal errors.

    `pixels` uint8 [N, S, S, 3], `labels` int8 [N, K] in {-1, +1}. Gives, by attribute, `auc`, the `threshold` as a
    logit, and `balanced_accuracy`, the mean of both values', there; one that shows one value only keeps 0 and has none.
    """
    logits, _ = judge.predict(pixels)
    found: dict[str, dict[str, float]] = {}
    for column, name in enumerate(judge.attribute_names):
        present = labels[:, column] > 0
        if present.all() or not present.any():
            continue
        threshold = metrics.equal_error_threshold(logits[:, column], present)
        predicted = logits[:, column] > threshold
        judge.thresholds[column] = threshold
        found[name] = {
            "auc": metrics.auc(logits[:, column], present),
            "balanced_accuracy": float((predicted[present].mean() + (~predicted[~present]).mean()) / 2),
            "threshold": threshold,
        }
    return found


def save_judge(judge: Judge, path: Path, facts: dict) -> None:
    """Write the judge with `facts` (seed, epochs, data hash, accuracy) atomically."""
    state = {
        "judge": judge.state_dict(),
        "attributes": judge.attribute_names,
        "image_size": judge.image_size,
        "data": None if judge.data is None else judge.data.model_dump(mode="json"),
        "thresholds": [float(value) for value in judge.thresholds],
        "facts": facts,
    }
    with files.directory(path.parent):
        checkpoint.save(path, state)


def load_judge(path: Path) -> tuple[Judge, dict]:
    """Read a judge and its facts. Raises CheckpointError."""
    state = checkpoint.load(path)
    if "judge" not in state:
        raise checkpoint.CheckpointError(f"{path}: holds no judge")
    with checkpoint.damaged(path):
        data = state.get("data")
        data = None if data is None else DataConfig.model_validate(data)
        judge, facts = Judge(state["attributes"], state["image_size"], data), dict(state["facts"])
        judge.thresholds = np.array(state.get("thresholds", judge.thresholds), dtype=np.float32)
    checkpoint.load_weights(judge, state, "judge", path)
    return judge.eval().to(memory_format=torch.channels_last), facts
