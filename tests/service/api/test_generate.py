"""POST /v1/generate: faces from attributes, seeds and latents."""

from __future__ import annotations

import base64
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.service.api.helpers import JSON, MEAN_FACE, facts, generate, level_of, levels
from tests.service.fakes import ATTRIBUTES, TestClient, pixels


@pytest.mark.parametrize(
    ("smiling", "level"), [(0, MEAN_FACE), (1, MEAN_FACE + 100), (-1, MEAN_FACE - 100), (0.5, 188)]
)
def test_generate_paints_the_requested_attributes(client: TestClient, smiling: float, level: int):
    assert level_of(generate(client, attributes={"Smiling": smiling}, temperature=0)) == level


def test_generate_takes_the_whole_vector(client: TestClient):
    assert level_of(generate(client, attributes=[0.5, -1, -1, -1, -1], temperature=0)) == MEAN_FACE + 50


def test_generate_decodes_given_latents_in_order(client: TestClient):
    latents = [[-30, 0, 0], [0, 0, 0], [31.4, 0, 0]]
    assert levels(generate(client, JSON, attributes={"Smiling": 0}, latents=latents)) == [98, 128, 159]


def test_generate_without_anything_gives_one_face(client: TestClient):
    assert pixels(generate(client).content).shape == (8, 8, 3)


def test_several_faces_come_as_a_grid(client: TestClient):
    latents = [[0, 0, 0], [10, 0, 0], [20, 0, 0]]
    found = pixels(generate(client, attributes={"Smiling": 0}, latents=latents).content)
    assert found[::8, ::8, 0].tolist() == [[128, 138], [148, 255]]


def test_generate_says_what_it_painted(client: TestClient):
    body = facts(generate(client, JSON, attributes={"Smiling": 0.5, "Black_Hair": 1}, count=3, seed=4))
    assert body["model"] == "tiny@1.2.3"
    assert body["seed"] == 4
    assert len(body["images"]) == 3
    for image in body["images"]:
        assert (image["media_type"], image["width"], image["height"]) == ("image/png", 8, 8)
        assert set(image["attributes"]) == set(ATTRIBUTES)
        assert image["attributes"]["Smiling"] == 0.5
        assert (image["attributes"]["Black_Hair"], image["attributes"]["Blond_Hair"]) == (1, -1)
        assert abs(image["attributes"]["Male"]) == 1


def test_the_same_seed_gives_the_same_faces_however_many(client: TestClient):
    many = facts(generate(client, JSON, seed=11, count=6))["images"]
    few = facts(generate(client, JSON, seed=11, count=2))["images"]
    assert few == many[:2]
    assert generate(client, seed=11).content == base64.b64decode(many[0]["data"])


def test_another_seed_gives_other_faces(client: TestClient):
    first, second = (levels(generate(client, JSON, seed=seed, count=6)) for seed in (1, 2))
    assert first != second


def test_a_seed_that_was_chosen_for_the_client_can_be_used_again(client: TestClient):
    first = generate(client, count=4)
    again = generate(client, count=4, seed=int(first.headers["x-facet-seed"]))
    assert again.content == first.content
    assert again.headers["x-facet-seed"] == first.headers["x-facet-seed"]


def test_chosen_seeds_differ(client: TestClient):
    assert generate(client).headers["x-facet-seed"] != generate(client).headers["x-facet-seed"]


def test_a_request_larger_than_a_batch_is_answered_whole(client: TestClient):
    latents = [[10 * i, 0, 0] for i in range(6)]
    found = levels(generate(client, JSON, attributes={"Smiling": 0}, latents=latents))
    assert found == [128 + 10 * i for i in range(6)]


def test_concurrent_requests_get_their_own_faces(client: TestClient):
    def ask(shift: int) -> list[int]:
        latents = [[shift + i, 0, 0] for i in range(3)]
        return levels(generate(client, JSON, attributes={"Smiling": 0}, latents=latents))

    with ThreadPoolExecutor(2) as pool:
        for shift, found in zip(range(0, 60, 10), pool.map(ask, range(0, 60, 10)), strict=True):
            assert found == [128 + shift + i for i in range(3)]
