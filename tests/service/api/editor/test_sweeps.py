"""Sweeps of photographs by a model's editor."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from tests.service.api.editor.conftest import ADDED, ALL_KNOWN, CENTRE, batches, frames, noise, sweep
from tests.service.fakes import TestClient, encoded, grey, model_of


def test_a_sweep_frames_the_face_once_and_runs_the_editor_for_each_step(client: TestClient):
    found = frames(sweep(client, encoded(Image.fromarray(noise()), "PNG"), layout="frames", steps=4, size=218))
    assert np.array_equal(found[0], noise())  # t = 0 is the photograph itself
    levels = [int(frame[CENTRE][0]) - int(noise()[CENTRE][0]) for frame in found]
    assert levels == pytest.approx([0, 16, 32, 48], abs=1)
    assert batches(client) == {"encoder": 1, "decoder": 0, "editor": 1}
    (given,) = model_of(client).runtime.seen
    assert (given["image"][0] == given["image"][2]).all()


def test_a_grid_of_two_attributes(client: TestClient):
    params = {"attribute": ["Smiling", "Eyeglasses"], "layout": "frames", "steps": 2, "size": 218}
    found = [int(frame[CENTRE][0]) for frame in frames(sweep(client, grey(80), **params))]
    assert found == [80, 128, 110, 158]
    assert batches(client)["decoder"] == 0


def test_a_sweep_of_the_bare_face(client: TestClient):
    params = {"layout": "frames", "steps": 2, "size": 24, "output": "face"}
    first, last = frames(sweep(client, grey(100), **params))
    assert first.shape == (24, 24, 3)
    assert (int(first[12, 12, 0]), int(last[12, 12, 0])) == (100, 100 + ADDED)


def test_sweeps_without_a_photograph_stay_the_decoders(client: TestClient):
    body = {"attribute": "Smiling", "latent": [5, 0, 0], "source_attributes": ALL_KNOWN, "steps": 2, "size": 16}
    assert client.post("/v1/sweep", json=body).status_code == 200
    assert client.post("/v1/sweep", json={"attribute": "Smiling", "seed": 3, "steps": 2, "size": 16}).status_code == 200
    assert batches(client) == {"encoder": 0, "decoder": 2, "editor": 0}
