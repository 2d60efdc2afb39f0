"""Attributes and latents as arrays: what is refused, what an edit does, and what is drawn."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from service.bundle import celeba, loader, vectors
from service.bundle.manifest import Manifest
from service.bundle.sampler import Sampler
from service.errors import Problem
from tests.service import fakes
from tests.service.fakes import ATTRIBUTES, LATENT_MEAN

NAN = math.nan
BLACK, BLOND = ATTRIBUTES.index("Black_Hair"), ATTRIBUTES.index("Blond_Hair")
GLASSES, MALE = ATTRIBUTES.index("Eyeglasses"), ATTRIBUTES.index("Male")


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


def test_values_over_others_replace_them_and_their_exclusive_group(manifest: Manifest):
    shared = vectors.attribute_vector({"Black_Hair": 1, "Smiling": 0.5, "Male": -1}, manifest)
    over = vectors.attribute_vector({"Blond_Hair": 1, "Male": 1}, manifest)
    same(vectors.overlaid(shared, over, manifest), [0.5, NAN, NAN, 1, 1])
    absent = vectors.attribute_vector({"Blond_Hair": -1}, manifest)
    same(vectors.overlaid(shared, absent, manifest), [0.5, NAN, 1, -1, -1])


def test_nothing_named_is_nothing_known(manifest: Manifest):
    same(vectors.attribute_vector({}, manifest), [NAN] * 5)


def test_a_whole_vector_is_taken_in_order(manifest: Manifest):
    same(vectors.attribute_vector([1, -1, 0.25, None, 2], manifest), [1, -1, 0.25, NAN, 2])


def test_null_means_unknown(manifest: Manifest):
    same(vectors.attribute_vector({"Smiling": None}, manifest), [NAN] * 5)


@pytest.mark.parametrize(
    ("name", "closest"),
    [("smilin", "Smiling"), ("Smilling", "Smiling"), ("Glasses", "Eyeglasses"), ("blond", "Blond_Hair")],
)
def test_an_unknown_name_suggests_the_closest(manifest: Manifest, name: str, closest: str):
    error = error_of(vectors.attribute_vector, {name: 1}, manifest)
    assert error["field"] == f"attributes.{name}"
    assert error["suggestions"][0] == closest


@pytest.mark.parametrize("name", ["smiling", "SMILING", "Smiling ", "s-m_i.l i n g"])
def test_letter_case_and_what_stands_between_letters_do_not_count(manifest: Manifest, name: str):
    same(vectors.attribute_vector({name: 0.5}, manifest), [0.5, NAN, NAN, NAN, NAN])


@pytest.fixture
def nicknamed(bundle_directory: Path) -> Manifest:
    def change(values: dict) -> None:
        values["attributes"][GLASSES] |= {"aliases": ["glasses", "specs"]}
        values["attributes"][BLOND] |= {"aliases": ["blonde", "blonde hair"]}
        values["attributes"][MALE] |= {"aliases": ["man"], "opposites": ["female", "Woman"]}

    fakes.rewrite_manifest(bundle_directory, change)
    return loader.read_manifest(bundle_directory)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"glasses": 1, "Blonde": -0.5}, [NAN, 1, NAN, -0.5, NAN]),
        ({"Blonde_Hair": 2, "MAN": 1}, [NAN, NAN, NAN, 2, 1]),
        ({"woman": 0.75, "Smiling": 1}, [1, NAN, NAN, NAN, -0.75]),
        ({"female": -2, "specs": None}, [NAN, NAN, NAN, NAN, 2]),
    ],
)
def test_an_alias_stands_for_its_attribute_and_an_opposite_for_its_negative(
    nicknamed: Manifest, given: dict, expected: list[float]
):
    same(vectors.attribute_vector(given, nicknamed), expected)


@pytest.mark.parametrize(
    "given", [{"glasses": 1, "Eyeglasses": 1}, {"man": 1, "Woman": 1}, {"smiling": 1, "Smiling": 0}]
)
def test_an_attribute_is_given_once(nicknamed: Manifest, given: dict):
    first, second = given
    error = error_of(vectors.attribute_vector, given, nicknamed)
    assert error["field"] == f"attributes.{second}"
    assert first in error["rule"]


def test_errors_name_an_attribute_as_the_request_does(nicknamed: Manifest):
    assert error_of(vectors.attribute_vector, {"woman": 3}, nicknamed)["field"] == "attributes.woman"


@pytest.mark.parametrize(
    ("name", "closest"), [("blnde", "Blond_Hair"), ("spects", "Eyeglasses"), ("womman", "woman"), ("malle", "Male")]
)
def test_an_unknown_name_suggests_by_aliases_too(nicknamed: Manifest, name: str, closest: str):
    suggestions = error_of(vectors.attribute_vector, {name: 1}, nicknamed)["suggestions"]
    assert suggestions[0] == closest
    assert len(set(suggestions)) == len(suggestions)


def test_an_opposite_is_swept_the_other_way(nicknamed: Manifest):
    strengths = np.array([0, 0.5, 1])
    shown = np.zeros((1, 5), dtype=np.float32)
    np.testing.assert_allclose(
        vectors.swept(shown, "woman", 1, strengths, nicknamed), vectors.swept(shown, "Male", -1, strengths, nicknamed)
    )


def test_a_list_of_forty_is_in_the_order_of_celeba(manifest: Manifest):
    values: list[float | None] = [-1.0] * 40
    for name, value in {"Smiling": 1, "Black_Hair": 0.5, "Young": None, "Bald": None, "Male": 1}.items():
        values[celeba.ATTRIBUTES.index(name)] = value
    assert vectors.is_celeba(values, manifest)
    named, ignored = vectors.from_celeba(values, manifest, ["Male"])
    assert named == {"Smiling": 1, "Eyeglasses": -1, "Black_Hair": 0.5, "Blond_Hair": -1}
    rest = set(celeba.ATTRIBUTES) - {"Smiling", "Eyeglasses", "Black_Hair", "Blond_Hair", "Young", "Bald"}
    assert set(ignored) == rest  # Male is disabled; nothing was said of Young and Bald
    same(vectors.attribute_vector(named, manifest), [1, -1, 0.5, -1, NAN])


def test_lists_of_other_lengths_and_mappings_are_not_celebas(manifest: Manifest):
    assert not vectors.is_celeba([0] * 5, manifest)
    assert not vectors.is_celeba([0] * 39, manifest)
    assert not vectors.is_celeba(dict.fromkeys(celeba.ATTRIBUTES, 1), manifest)
    assert len(celeba.ATTRIBUTES) == len(set(celeba.ATTRIBUTES)) == 40


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
    requested = np.float32([1, NAN, value, NAN, NAN])
    same(vectors.edit_target(requested, manifest), requested)


def test_the_target_leaves_what_was_requested_untouched(manifest: Manifest):
    requested = np.float32([NAN, NAN, 1, NAN, NAN])
    vectors.edit_target(requested, manifest)
    assert np.isnan(requested[BLOND])


@pytest.mark.parametrize(
    ("strength", "expected"), [(0, [0.5, -0.5]), (0.5, [0.75, -0.75]), (1, [1, -1]), (2, [1.5, -1.5])]
)
def test_an_edit_goes_the_requested_part_of_the_way(strength: float, expected: list[float]):
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
def test_a_picture_does_not_depend_on_how_many_are_requested(sampler: Sampler, manifest: Manifest, count: int):
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


def test_requested_values_stay_as_requested_and_drawn_ones_are_present_or_absent(sampler: Sampler, manifest: Manifest):
    requested = unknown()
    requested[0], requested[GLASSES] = 0.3, -1.7
    rows = sampler.attributes(requested, 1, 50)
    assert rows.dtype == np.float32
    assert (rows[:, 0] == np.float32(0.3)).all()
    assert (rows[:, GLASSES] == np.float32(-1.7)).all()
    assert set(np.unique(rows[:, 2:])) == {-1.0, 1.0}


def test_drawn_attributes_go_with_what_was_requested(sampler: Sampler, manifest: Manifest):
    shares = []
    for male in (-1, 1):
        requested = unknown()
        requested[ATTRIBUTES.index("Male")] = male
        shares.append((sampler.attributes(requested, 2, 200)[:, GLASSES] > 0).mean())
    assert shares[0] < 0.1
    assert shares[1] > 0.9


def test_a_group_is_never_set_twice(sampler: Sampler, manifest: Manifest):
    rows = sampler.attributes(unknown(), 3, 300)
    present = (rows[:, [BLACK, BLOND]] > 0).sum(axis=1)
    assert set(present) == {0, 1}


@pytest.mark.parametrize("value", [0.1, 1, 2])
def test_an_requested_hair_colour_excludes_the_other(sampler: Sampler, manifest: Manifest, value: float):
    requested = unknown()
    requested[BLACK] = value
    rows = sampler.attributes(requested, 4, 100)
    assert (rows[:, BLACK] == np.float32(value)).all()
    assert (rows[:, BLOND] == -1).all()


def test_a_vector_that_leaves_nothing_open_is_repeated(sampler: Sampler, manifest: Manifest):
    requested = np.float32([1, -1, 0.5, -1, 0])
    np.testing.assert_array_equal(sampler.attributes(requested, 5, 3), [requested] * 3)


def test_a_vector_that_only_a_group_leaves_open_is_filled(sampler: Sampler, manifest: Manifest):
    requested = np.float32([1, -1, 0.5, NAN, 0])
    np.testing.assert_array_equal(sampler.attributes(requested, 5, 2), [np.float32([1, -1, 0.5, -1, 0])] * 2)


def test_latents_follow_the_attributes_they_are_drawn_for(manifest: Manifest):
    weights = [[0.0] * 5, [0.0, 2.0, 0.0, 0.0, 0.0], [0.0] * 5]
    leaning = Sampler(manifest.prior.model_copy(update={"latent_weights": weights}), [None] * 5)
    requested = np.array([[0, 1, 0, 0, 0], [0, -1, 0, 0, 0]], dtype=np.float32)
    difference = leaning.latents(1, requested, 0.0)[0] - leaning.latents(1, requested, 0.0)[1]
    np.testing.assert_allclose(difference, [0, 4, 0])
