"""Requests made from the OpenAPI document, and pictures made to break decoders: samples of benchmarks.faults."""

from __future__ import annotations

import asyncio

import httpx
import pytest

from benchmarks.faults import mutations, pictures, schema
from benchmarks.faults.attacks import samples
from benchmarks.processes import Instance
from service.settings import Settings

pytestmark = pytest.mark.slow
COUNT = 270


def test_the_document_and_the_service_agree_in_every_check_of_schemathesis(service: Instance):
    done = schema.attack(service.url, examples=1, seed=1)
    assert done.returncode == 0, done.stdout
    paths = httpx.get(f"{service.url}/openapi.json").json()["paths"]
    assert f"{sum(map(len, paths.values()))} selected" in done.stdout


def test_no_picture_brings_anything_but_2xx_and_4xx(service: Instance):
    found = asyncio.run(pictures.attack(service.url, mutations.mutated(7, COUNT), service.process))
    assert found.wrong == []
    statuses = {status for counted in found.statuses.values() for status in counted}
    assert statuses >= {200, 400, 413, 415, 422}
    assert found.peak <= found.allowed(Settings())
    assert "Traceback" not in service.log


def test_the_same_seed_gives_the_same_files():
    assert list(mutations.mutated(3, 100)) == list(mutations.mutated(3, 100))
    assert list(mutations.mutated(3, 100)) != list(mutations.mutated(4, 100))


def test_every_attack_is_among_the_first():
    assert {name for name, _ in mutations.mutated(0, len(mutations.ATTACKS))} == set(mutations.ATTACKS)


@pytest.mark.parametrize("name", sorted(samples.sound()))
def test_the_files_that_attacks_begin_with_are_sound(service: Instance, name: str):
    with service.client as client:
        answer = client.post("/v1/edit", files={"image": samples.sound()[name]}, data={"attributes": "{}"})
    assert answer.status_code == 200, answer.text
