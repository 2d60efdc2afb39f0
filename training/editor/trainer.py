"""The editor's stage: one step of the editor and one of its opponent, and what is looked at in between."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from service.imaging import codecs
from training import attributes as attribute_rules
from training.config import EditorConfig
from training.data.source import Source
from training.editor import objective, requests, tones
from training.editor.features import Features
from training.editor.model import Editor
from training.editor.objective import Batch, Opponent
from training.editor.requests import Requests
from training.editor.source import EditorFaces
from training.editor.views import Views
from training.pixels import to_model, to_pixels
from training.schedule import follow_late_cosine
from training.target_confidence import TargetConfidence
from training.trainer import Trainer

SHEET_PICTURES = 10
_SKULL = (62.0, 92.0)  # half axes of a bald head around the face, in pixels of the aligned picture


class EditorTrainer(Trainer):
    """`source` has the training pictures with a margin and person masks, `held_out` others."""

    config: EditorConfig

    def __init__(
        self,
        config: EditorConfig,
        source: Source,
        held_out: EditorFaces,
        features: Features,
        directory: Path,
        device: torch.device,
        command: str = "",
    ) -> None:
        super().__init__(config, source, directory, device, command)
        self.held_out = held_out
        self.frequencies = torch.from_numpy(source.frequencies())
        self.rules = requests.Rules.of(
            config.data.attributes,
            config.data.kept,
            attribute_rules.groups(config.data.labels, config.data.about),
            config.requests,
        )
        self.ellipse, self.face_ellipse = (
            ellipse(config, axes).to(device) for axes in (config.loss.ellipse, config.loss.face_ellipse)
        )
        self.skull = (above_the_eyes(config) * ellipse(config, _SKULL)).to(device)
        count = len(config.data.attributes)
        # Channels last: convolutions on matrix units run about 1.5 times as fast as with channels first.
        placement = {"device": device, "memory_format": torch.channels_last}
        self.editor = Editor(config.model, config.data.image_size, count).to(**placement)
        self.average = Editor(config.model, config.data.image_size, count).to(**placement).requires_grad_(False).eval()
        self.average.load_state_dict(self.editor.state_dict())
        self.reference = copy.deepcopy(self.average) if config.loss.anchor else None
        if self.reference is not None:
            self.reference.person = self.average.person  # which the run may begin without
        self.opponent = Opponent(config.opponent, len(config.data.labels)).to(**placement)
        self.features = features.to(**placement)
        margins = objective.confidence_margins(self.frequencies, config.loss)
        self.confidences = [TargetConfidence(len(config.data.labels), margins) for _ in objective.CLASSIFIERS]
        self.editor_optimiser = self.make_optimiser(self.editor)
        self.opponent_optimiser = self.make_opponent_optimiser(self.opponent)

    def train_step(self) -> dict[str, Tensor]:
        batch, reach = self._batch()
        passes = self.passes()
        frequencies = self.frequencies.to(self.device)
        follow_late_cosine(self.config.train, self.progress, self.editor_optimiser, self.opponent_optimiser)
        since = self.step - self.config.opponent.head_start_steps
        scalars: dict[str, Tensor] = {}

        def editor_loss(rows: slice):
            return objective.editor_loss(
                self.editor,
                self.opponent,
                self.features,
                batch.part(rows),
                self.confidences,
                self.config,
                since,
                self.reference,
            )

        if since >= 0:
            self.opponent.requires_grad_(False)
            found, norm, inputs = self.descend(self.editor, self.editor_optimiser, editor_loss, passes)
            self.opponent.requires_grad_(True)
            self.average_weights(self.average, self.editor)
            for confidence, logits in zip(
                self.confidences, zip(*(each.logits for each in inputs), strict=True), strict=True
            ):
                confidence.update(batch.labels, torch.cat(logits))
            scalars |= {"gradient_norm": norm, **found}
        else:
            if self.editor.person is not None:
                found, _, _ = self.descend(
                    self.editor,
                    self.editor_optimiser,
                    lambda rows: objective.person_loss(self.editor, batch.part(rows)),
                    passes,
                )
                self.average_weights(self.average, self.editor)
                scalars |= {"person": found["person"]}
            with self.autocast():
                inputs = [objective.real_inputs(self.features, batch.part(rows), self.config) for rows in passes]
        inputs_of_passes = iter(inputs)

        def opponent_loss(rows: slice):
            return objective.opponent_loss(
                self.opponent, batch.part(rows), next(inputs_of_passes), frequencies, reach[rows], self.config
            )

        found, norm, _ = self.descend(self.opponent, self.opponent_optimiser, opponent_loss, passes)
        scalars |= {"opponent_gradient_norm": norm, "opponent_loss": found.pop("loss"), **found}
        self.step += 1
        return scalars

    def _batch(self) -> tuple[Batch, Tensor]:
        """This process's part of the batch, and shares of the worst cases' radius, f32 [N]."""
        config, size, mine = self.config, self.config.train.batch_size, self.loader.part
        faces = self.loader.take(self.step)
        epoch, position = divmod(self.step, self.steps_per_epoch)
        rng = np.random.default_rng([config.train.seed, epoch, position])
        # Even shifts, since the person masks have half of the resolution.
        reach = int(config.data.shift) // 2
        shifts = 2 * rng.integers(-reach, reach + 1, (size, 2))
        mirrored = (rng.random(size) < 0.5) & config.data.flip
        cut = faces.cut(config.data.image_size, shifts[mine], mirrored[mine])
        labels = torch.from_numpy(cut.labels.astype(np.float32))
        seeds = rng.integers(2**62, size=3)
        requested = requests.draw(labels, self.frequencies, self.rules, size, mine, int(seeds[0]), config.requests)
        requested = requested.to(self.device)
        free = config.data.image_size - config.opponent.crop
        views = Views.draw(size, free, int(seeds[1]), config.views).part(mine)
        person = self._person(cut.person)
        exponents = tones.draw_exponents(size, int(seeds[2]), config.data)[mine].to(self.device)
        exponents = torch.where(requested.light[:, None], 1.0, exponents)
        # Edits of darker pictures are to get better, and those of before are no example for that.
        requested = replace(requested, anchored=requested.anchored & (exponents == 1).all(1))
        batch = Batch(
            tones.darken(self._pictures(cut.pixels), exponents),
            labels.to(self.device),
            person,
            person * self._near(requested.facial),
            person * self.skull * requested.bares[:, None, None, None],
            requested,
            views,
        )
        return batch, torch.linspace(0, 1, size)[mine].to(self.device)

    def _pictures(self, pixels: np.ndarray) -> Tensor:
        return to_model(pixels, self.device).contiguous(memory_format=torch.channels_last)

    def _person(self, mask: np.ndarray) -> Tensor:
        """1 on the person or within two pixels, else 0, f32 [N, 1, S, S]; `mask` uint8 [N, S/2, S/2]."""
        person = torch.from_numpy(mask > 127)[:, None].float().to(self.device)  # [N, 1, S/2, S/2]
        return F.interpolate(F.max_pool2d(person, 3, stride=1, padding=1), scale_factor=2.0)

    def _near(self, facial: Tensor) -> Tensor:
        """1 near the face, f32 [N, 1, S, S]; nearer for edits that are `facial` bool [N]."""
        return torch.where(facial[:, None, None, None], self.face_ellipse, self.ellipse)

    # -- validation ---------------------------------------------------------------------------------------------

    @torch.no_grad()
    def validate(self) -> tuple[dict[str, float], np.ndarray]:
        """Held-out faces, each with one attribute inverted in turn.

        The share of edits that show is the training classifiers' own opinion, with the editor trained against them: it
        follows a run and judges nothing.
        """
        config = self.config
        shown, kept, outside = [], [], []
        editable = self.rules.editable.nonzero().flatten().tolist()
        faces = self.held_out.first(config.train.validation_pictures)
        free = config.data.image_size - config.opponent.crop
        for start in range(0, len(faces.pixels), config.train.batch_size):
            part = faces.rows(slice(start, start + config.train.batch_size))
            image = self._pictures(part.pixels)
            labels = torch.from_numpy(part.labels.astype(np.float32))
            views = Views.draw(len(image), free, start, config.views)
            view = objective.crop(image, views, config.opponent.crop)
            with self.autocast():
                before = self.opponent.classifier(self.features(view))
            # Of 16 edits of each picture every fourth: a fair sample at a fraction of the time.
            for attribute in editable[(start // config.train.batch_size) % 4 :: 4]:
                requested = self._inverted(labels, attribute)
                with self.autocast():
                    edited, _ = objective.edit(self.average, image, requested.change)
                    logits = self.opponent.classifier(
                        self.features(objective.crop(edited, views, config.opponent.crop))
                    )
                shown.append(((logits[:, attribute] > 0) == (requested.target[:, attribute] > 0)).float().mean())
                moved = ((logits > 0) != (before > 0)) & requested.kept
                kept.append(moved.float().sum() / requested.kept.sum())
                change = (edited - image).abs() * (1 - self._person(part.person) * self._near(requested.facial))
                outside.append(127.5 * change.mean())
        figures = {
            "edits_shown": float(torch.stack(shown).mean()),
            "others_changed": float(torch.stack(kept).mean()),
            "outside_levels": float(torch.stack(outside).mean()),
        }
        return figures, self.sheet()

    @torch.no_grad()
    def sheet(self, count: int = SHEET_PICTURES) -> np.ndarray:
        """Rows of a held-out picture and each attribute inverted; uint8 [count S, (1 + K) S, 3]."""
        faces = self.held_out.first(count)
        image, labels = self._pictures(faces.pixels), torch.from_numpy(faces.labels.astype(np.float32))
        columns = [image]
        for attribute in self.rules.editable.nonzero().flatten().tolist():
            requested = self._inverted(labels, attribute)
            with self.autocast():
                columns.append(objective.edit(self.average, image, requested.change)[0])
        pictures = torch.stack(columns, dim=1).flatten(0, 1)
        return codecs.grid(to_pixels(pictures), columns=len(columns))

    def _inverted(self, labels: Tensor, attribute: int) -> Requests:
        """What inverts one attribute, all the way, on pictures with `labels` f32 [N, K]."""
        flips = torch.zeros(labels.shape, dtype=torch.bool)
        flips[:, attribute] = True
        return requests.of_flips(labels, flips, torch.ones(len(labels), 1), self.rules, self.config.requests).to(
            self.device
        )

    # -- checkpoints --------------------------------------------------------------------------------------------

    def trained(self) -> dict[str, nn.Module]:
        return {"model": self.editor, "ema": self.average, "opponent": self.opponent}

    def optimisers(self) -> dict[str, torch.optim.Optimizer]:
        return {"optimiser": self.editor_optimiser, "opponent_optimiser": self.opponent_optimiser}

    def warm_start(self, path: Path) -> list[str]:
        missing = super().warm_start(path)
        if self.reference is not None:
            self.reference.load_state_dict(self.average.state_dict())
        return missing

    def state(self) -> dict[str, Any]:
        reference = {} if self.reference is None else {"reference": self.reference.state_dict()}
        return {"target_confidences": [confidence.logits.values for confidence in self.confidences], **reference}

    def load_state(self, state: dict[str, Any]) -> None:
        if self.reference is not None:
            self.reference.load_state_dict(state["reference"])
        for confidence, values in zip(self.confidences, state["target_confidences"], strict=True):
            confidence.logits.values = values


def ellipse(config: EditorConfig, axes: tuple[float, float]) -> Tensor:
    """1 within an ellipse around the face, else 0; f32 [1, 1, S, S]. `axes` are half axes in aligned pixels."""
    left, _, right, _ = config.data.crop_box
    size = config.data.image_size
    points = objective.in_frame(config)
    eyes, mouth = points[:2].mean(0), points[3:].mean(0)
    x, y = float(eyes[0]), float(eyes[1] + mouth[1]) / 2
    centres = torch.arange(size) + 0.5
    wide, high = (axis * size / (right - left) for axis in axes)
    inside = ((centres - x) / wide) ** 2 + ((centres[:, None] - y) / high) ** 2 <= 1
    return inside.float()[None, None]


def above_the_eyes(config: EditorConfig) -> Tensor:
    """1 above the eyes by half of the way from them to the mouth, else 0; f32 [1, 1, S, S]."""
    points = objective.in_frame(config)
    eyes, mouth = float(points[:2, 1].mean()), float(points[3:, 1].mean())
    size = config.data.image_size
    rows = torch.arange(size) + 0.5 < eyes - 0.5 * (mouth - eyes)
    return rows.float()[None, None, :, None].expand(1, 1, size, size)
