"""The judge: an attribute classifier that no training loss has seen, to say whether an edit shows.

It shares neither seed, architecture nor parameters with the opponent that the model trains against: a residual
network with batch normalisation and average pooling (He et al. 2016) instead of a spectrally normalised
strided one.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from tqdm import tqdm

from training import checkpoint
from training.config import ConfigError
from training.dataset import FaceIndex, augmented
from training.pixels import to_model
from training.precision import autocast

_WIDTHS = (32, 64, 128, 192)


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


class Judge(nn.Module):
    """f32 [N, 3, S, S] in -1..1 to attribute logits f32 [N, K]; `features` gives f32 [N, 192] for distances."""

    def __init__(self, attributes: list[str], image_size: int) -> None:
        super().__init__()
        self.attribute_names, self.image_size = list(attributes), image_size
        self.stem = nn.Conv2d(3, _WIDTHS[0], 5, stride=2, padding=2)
        blocks = []
        for inputs, outputs in zip((_WIDTHS[0], *_WIDTHS), _WIDTHS, strict=False):
            blocks += [_Residual(inputs, outputs, 1 if inputs == outputs else 2), _Residual(outputs, outputs, 1)]
        self.blocks = nn.Sequential(*blocks)
        self.head = nn.Sequential(nn.Dropout(0.2), nn.Linear(_WIDTHS[-1], len(attributes)))

    def features(self, image: Tensor) -> Tensor:
        """Globally pooled features f32 [N, 192] before the linear head."""
        return self.blocks(F.relu(self.stem(image))).mean(dim=(2, 3)).float()

    def forward(self, image: Tensor) -> Tensor:
        return self.head(self.features(image)).float()

    @torch.no_grad()
    def look(self, pixels: np.ndarray, batch_size: int = 256) -> tuple[np.ndarray, np.ndarray]:
        """Logits f32 [N, K] and features f32 [N, 192] of uint8 [N, S, S, 3]."""
        device = self.stem.weight.device
        logits, features = [], []
        for start in range(0, len(pixels), batch_size):
            found = self.features(to_model(pixels[start : start + batch_size], device))
            features.append(found.cpu())
            logits.append(self.head(found).float().cpu())
        return torch.cat(logits).numpy(), torch.cat(features).numpy()


def train_judge(
    index: FaceIndex,
    pixels: np.ndarray,
    image_size: int,
    seed: int,
    epochs: int,
    device: torch.device,
    batch_size: int = 128,
    learning_rate: float = 2e-3,
) -> Judge:
    """Train on `pixels` uint8 [N, S + 2m, S + 2m, 3] with flips, shifts within the margin m and light jitter."""
    torch.manual_seed(seed)
    rng = np.random.default_rng([seed, 99])
    judge = Judge(index.attributes, image_size).to(device, memory_format=torch.channels_last)
    labels = torch.from_numpy((index.labels > 0).astype(np.float32))
    steps = len(index) // batch_size * epochs
    if steps == 0:
        raise ConfigError(f"a judge needs at least {batch_size} pictures, there are {len(index)}")
    optimiser = torch.optim.AdamW(judge.parameters(), lr=learning_rate, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, learning_rate, total_steps=steps, pct_start=0.2)
    margin = (pixels.shape[1] - image_size) // 2
    bar = tqdm(total=steps, unit="step", mininterval=1.0)
    judge.train()
    for _ in range(epochs):
        order = rng.permutation(len(index))
        for start in range(0, len(order) - batch_size + 1, batch_size):
            rows = order[start : start + batch_size]
            offsets = rng.integers(0, 2 * margin + 1, size=(batch_size, 2))
            batch = to_model(augmented(pixels, rows, image_size, offsets, rng.random(batch_size) < 0.5), device)
            light = torch.from_numpy(rng.normal(0, 0.1, (2, batch_size, 1, 1, 1)).astype(np.float32)).to(device)
            batch = batch * (1 + light[0]) + light[1]
            with autocast(device):
                logits = judge(batch)
            loss = F.binary_cross_entropy_with_logits(logits, labels[torch.from_numpy(rows)].to(device))
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            optimiser.step()
            schedule.step()
            bar.update()
            if bar.n % 20 == 0:
                bar.set_postfix(loss=f"{loss.item():.3f}")
    bar.close()
    return judge.eval()


def save_judge(judge: Judge, path: Path, facts: dict) -> None:
    """Write the judge with `facts` (seed, epochs, data hash, accuracy) atomically."""
    path.parent.mkdir(parents=True, exist_ok=True)
    checkpoint.save(
        path,
        {
            "judge": judge.state_dict(),
            "attributes": judge.attribute_names,
            "image_size": judge.image_size,
            "facts": facts,
        },
    )


def load_judge(path: Path) -> tuple[Judge, dict]:
    """Read a judge and its facts. Raises CheckpointError."""
    state = checkpoint.load(path)
    if "judge" not in state:
        raise checkpoint.CheckpointError(f"{path}: holds no judge")
    judge = Judge(state["attributes"], state["image_size"])
    judge.load_state_dict(state["judge"])
    return judge.eval().to(memory_format=torch.channels_last), state["facts"]
