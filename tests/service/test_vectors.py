"""Attributes and latents as arrays: what is refused, what an edit does, and what is drawn."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from service import vectors
from service.bundle import Manifest
from service.problems import Problem
from service.vectors import Sampler
from tests.service.fakes import ATTRIBUTES, LATENT_MEAN

NAN = math.nan
BLACK, BLOND = ATTRIBUTES.index("Black_Hair"), ATTRIBUTES.index("Blond_Hair")
GLASSES = ATTRIBUTES.index("Eyeglasses")


def error_of(work, *arguments: Any) -> dict[str, Any]:
    with pytest.raises(Problem) as caught:
        work(*arguments)
    assert caught.value.status == 422
    (error,) = caught.value.errors
    return error


def same(found: np.ndarray, expected: Sequence[float]) -> None:
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, np.asarray(expected, np.float32))


def test_named_attributes_take_their_places_and_the_rest_is_unknown(manifest: Manifest):
    same(vectors.attribute_vector({"Male": -1, "Smiling": 0.5}, manifest), [0.5, NAN, NAN, NAN, -1])


def test_nothing_named_is_nothing_known(manifest: Manifest):
    same(vectors.attribute_vector({}, manifest), [NAN] * 5)


def test_a_whole_vector_is_taken_in_order(manifest: Manifest):
    same(vectors.attribute_vector([1, -1, 0.25, None, 2], manifest), [1, -1, 0.25, NAN, 2])


def test_null_means_unknown(manifest: Manifest):
    same(vectors.attribute_vector({"Smiling": None}, manifest), [NAN] * 5)


@pytest.mark.parametrize(
    ("name", "closest"),
    [("smiling", "Smiling"), ("Smilling", "Smiling"), ("Glasses", "Eyeglasses"), ("blondhair", "Blond_Hair")],
)
def test_an_unknown_name_suggests_the_closest(manifest: Manifest, name: str, closest: str):
    error = error_of(vectors.attribute_vector, {name: 1}, manifest)
    assert error["field"] == f"attributes.{name}"
    assert error["suggestions"][0] == closest


def test_a_name_like_no_other_suggests_nothing(manifest: Manifest):
    assert "suggestions" not in error_of(vectors.attribute_vector, {"qqqq": 1}, manifest)


@pytest.mark.parametrize("value", [NAN, math.inf, -math.inf, 2.01, -2.01, 1e30])
def test_a_value_outside_the_range_names_its_attribute(manifest: Manifest, value: float):
    error = error_of(vectors.attribute_vector, {"Smiling": value}, manifest)
    assert error["field"] == "attributes.Smiling"
    assert error["value"] == (value if math.isfinite(value) else str(value))
    assert error["rule"]


def test_a_value_of_a_list_is_named_like_any_other(manifest: Manifest):
    assert error_of(vectors.attribute_vector, [0, 3, 0, 0, 0], manifest)["field"] == "attributes.Eyeglasses"


@pytest.mark.parametrize("value", [-2, 2, 0])
def test_the_range_includes_its_ends(manifest: Manifest, value: float):
    assert vectors.attribute_vector({"Smiling": value}, manifest)[0] == value


@pytest.mark.parametrize("values", [[], [0] * 4, [0] * 6])
def test_a_vector_of_another_length_says_both_lengths(manifest: Manifest, values: list[float]):
    error = error_of(vectors.attribute_vector, values, manifest)
    assert error["field"] == "attributes"
    assert error["value"] == f"{len(values)} values"
    assert "5 values" in error["rule"]


def test_two_hair_colours_contradict_each_other(manifest: Manifest):
    error = error_of(vectors.attribute_vector, {"Blond_Hair": 1, "Black_Hair": 0.1}, manifest)
    assert error["field"] == "attributes.Blond_Hair"
    assert "Black_Hair" in error["rule"]
    assert "hair" in error["rule"]


@pytest.mark.parametrize("other", [0, -1])
def test_one_hair_colour_beside_an_absent_one_is_fine(manifest: Manifest, other: float):
    found = vectors.attribute_vector({"Blond_Hair": 1, "Black_Hair": other}, manifest)
    assert found[[BLACK, BLOND]].tolist() == [other, 1]


def test_errors_name_the_parameter_they_came_in(manifest: Manifest):
    error = error_of(vectors.attribute_vector, {"Smiling": 9}, manifest, "source_attributes")
    assert error["field"] == "source_attributes.Smiling"


def test_setting_one_of_a_group_clears_the_others(manifest: Manifest):
    same(vectors.edit_target(np.float32([NAN, NAN, 1, NAN, NAN]), manifest), [NAN, NAN, 1, -1, NAN])


@pytest.mark.parametrize("value", [-1, 0, NAN])
def test_not_setting_any_of_a_group_clears_nothing(manifest: Manifest, value: float):
    asked = np.float32([1, NAN, value, NAN, NAN])
    same(vectors.edit_target(asked, manifest), asked)


def test_the_target_leaves_what_was_asked_untouched(manifest: Manifest):
    asked = np.float32([NAN, NAN, 1, NAN, NAN])
    vectors.edit_target(asked, manifest)
    assert np.isnan(asked[BLOND])


@pytest.mark.parametrize(
    ("strength", "expected"), [(0, [0.5, -0.5]), (0.5, [0.75, -0.75]), (1, [1, -1]), (2, [1.5, -1.5])]
)
def test_an_edit_goes_the_asked_part_of_the_way(strength: float, expected: list[float]):
    shown, target = np.float32([[0.5, -0.5, 0.25]]), np.float32([1, -1, NAN])
    same(vectors.edited(shown, target, strength), [[*expected, 0.25]])


def test_each_face_goes_its_own_way():
    same(vectors.edited(np.float32([[0], [1]]), np.float32([-1]), 1.5), [[-1.5], [-2]])


def test_latents_become_a_matrix(manifest: Manifest):
    same(vectors.latent_matrix([[1, 2, 3], [4, 5, 6]], manifest, ["a", "b"]), [[1, 2, 3], [4, 5, 6]])


@pytest.mark.parametrize("latent", [[], [1, 2], [1, 2, 3, 4]])
def test_a_latent_of_another_length_names_its_row(manifest: Manifest, latent: list[float]):
    error = error_of(vectors.latent_matrix, [[0, 0, 0], latent], manifest, ["latents.0", "latents.1"])
    assert error["field"] == "latents.1"
    assert error["value"] == f"{len(latent)} values"
    assert "3 values" in error["rule"]


@pytest.mark.parametrize("value", [NAN, math.inf, 1001, -1e38])
def test_a_latent_value_out_of_range_names_its_place(manifest: Manifest, value: float):
    assert error_of(vectors.latent_matrix, [[0, 0, value]], manifest, ["latent"])["field"] == "latent.2"


def undecided(count: int) -> np.ndarray:
    return np.zeros((count, 5), dtype=np.float32)


@pytest.fixture
def sampler(manifest: Manifest) -> Sampler:
    return Sampler(manifest.prior, [a.group for a in manifest.attributes])


def unknown() -> np.ndarray:
    return np.full(len(ATTRIBUTES), NAN, np.float32)


@pytest.mark.parametrize("count", [1, 2, 7])
def test_a_picture_does_not_depend_on_how_many_are_asked_for(sampler: Sampler, manifest: Manifest, count: int):
    np.testing.assert_array_equal(
        sampler.latents(5, undecided(count), 1.0), sampler.latents(5, undecided(9), 1.0)[:count]
    )
    few, many = (sampler.attributes(unknown(), 5, n) for n in (count, 9))
    np.testing.assert_array_equal(few, many[:count])


def test_different_seeds_and_different_places_differ(sampler: Sampler):
    drawn = np.concatenate([sampler.latents(seed, undecided(3), 1.0) for seed in range(4)])
    assert len(np.unique(drawn, axis=0)) == 12


def test_the_largest_seed_is_as_good_as_any(sampler: Sampler):
    assert np.isfinite(sampler.latents(2**53 - 1, undecided(2), 1.0)).all()


def test_temperature_zero_gives_the_mean(sampler: Sampler):
    found = sampler.latents(3, undecided(2), 0.0)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, np.float32([LATENT_MEAN, LATENT_MEAN]))


def test_temperature_scales_the_distance_from_the_mean(sampler: Sampler):
    one, half = (sampler.latents(3, undecided(4), t).astype(float) - LATENT_MEAN for t in (1.0, 0.5))
    np.testing.assert_allclose(half, one / 2, atol=1e-5)


def test_latents_follow_the_prior(sampler: Sampler, manifest: Manifest):
    drawn = np.concatenate([sampler.latents(seed, undecided(64), 1.0) for seed in range(60)])
    factor = np.zeros((3, 3))
    for i, row in enumerate(manifest.prior.latent_cholesky):
        factor[i, : i + 1] = row
    np.testing.assert_allclose(drawn.mean(0), LATENT_MEAN, atol=0.15)
    np.testing.assert_allclose(np.cov(drawn.T), factor @ factor.T, atol=0.3)


def test_asked_values_stay_as_asked_and_drawn_ones_are_present_or_absent(sampler: Sampler, manifest: Manifest):
    asked = unknown()
    asked[0], asked[GLASSES] = 0.3, -1.7
    rows = sampler.attributes(asked, 1, 50)
    assert rows.dtype == np.float32
    assert (rows[:, 0] == np.float32(0.3)).all()
    assert (rows[:, GLASSES] == np.float32(-1.7)).all()
    assert set(np.unique(rows[:, 2:])) == {-1.0, 1.0}


def test_drawn_attributes_go_with_what_was_asked(sampler: Sampler, manifest: Manifest):
    shares = []
    for male in (-1, 1):
        asked = unknown()
        asked[ATTRIBUTES.index("Male")] = male
        shares.append((sampler.attributes(asked, 2, 200)[:, GLASSES] > 0).mean())
    assert shares[0] < 0.1
    assert shares[1] > 0.9


def test_a_group_is_never_set_twice(sampler: Sampler, manifest: Manifest):
    rows = sampler.attributes(unknown(), 3, 300)
    present = (rows[:, [BLACK, BLOND]] > 0).sum(axis=1)
    assert set(present) == {0, 1}


@pytest.mark.parametrize("value", [0.1, 1, 2])
def test_an_asked_hair_colour_excludes_the_other(sampler: Sampler, manifest: Manifest, value: float):
    asked = unknown()
    asked[BLACK] = value
    rows = sampler.attributes(asked, 4, 100)
    assert (rows[:, BLACK] == np.float32(value)).all()
    assert (rows[:, BLOND] == -1).all()


def test_a_vector_that_leaves_nothing_open_is_repeated(sampler: Sampler, manifest: Manifest):
    asked = np.float32([1, -1, 0.5, -1, 0])
    np.testing.assert_array_equal(sampler.attributes(asked, 5, 3), [asked] * 3)


def test_a_vector_that_only_a_group_leaves_open_is_filled(sampler: Sampler, manifest: Manifest):
    asked = np.float32([1, -1, 0.5, NAN, 0])
    np.testing.assert_array_equal(sampler.attributes(asked, 5, 2), [np.float32([1, -1, 0.5, -1, 0])] * 2)


def test_latents_follow_the_attributes_they_are_drawn_for(manifest: Manifest):
    weights = [[0.0] * 5, [0.0, 2.0, 0.0, 0.0, 0.0], [0.0] * 5]
    leaning = Sampler(manifest.prior.model_copy(update={"latent_weights": weights}), [None] * 5)
    asked = np.array([[0, 1, 0, 0, 0], [0, -1, 0, 0, 0]], dtype=np.float32)
    difference = leaning.latents(1, asked, 0.0)[0] - leaning.latents(1, asked, 0.0)[1]
    np.testing.assert_allclose(difference, [0, 4, 0])
