"""Attribute vectors and latents: what a request says in JSON, as the arrays that the graphs take."""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping, Sequence
from functools import lru_cache, partial
from statistics import NormalDist

import numpy as np

from service.bundle import Manifest, SamplingPrior
from service.gaussian_prior import GaussianPrior
from service.problems import invalid
from service.schemas import LATENT_LIMIT, LEVEL_LIMIT, TEMPERATURE

_KEPT_CONDITIONINGS = 256

AttributeValues = Mapping[str, float | None] | Sequence[float | None]


def attribute_vector(
    values: AttributeValues, manifest: Manifest, field: str = "attributes", exclusive: bool = True
) -> np.ndarray:
    """f32 [K] in manifest order, NaN for attributes that `values` leaves out or gives as null.

    `values` is a mapping by name, or the whole vector. Raises a 422 Problem for an unknown name (with the closest known
    ones), a wrong length, a value that is not finite or not within -2..2, or, if `exclusive`, two attributes of one
    group that are both set. What a picture shows, unlike what is asked for, may be undecided between two.
    """
    names = manifest.attribute_names
    if isinstance(values, Mapping):
        given = {_known(name, names, field): value for name, value in values.items()}
    else:
        if len(values) != len(names):
            raise invalid(field, f"{len(values)} values", f"must have {len(names)} values, in the order of the model")
        given = dict(zip(names, values, strict=True))
    vector = np.full(len(names), np.nan, dtype=np.float32)
    for name, value in given.items():
        if value is not None:
            vector[names.index(name)] = _within(value, f"{field}.{name}", LEVEL_LIMIT)
    if exclusive:
        _refuse_contradictions(vector, manifest, field)
    return vector


def _known(name: str, names: list[str], field: str) -> str:
    if name in names:
        return name
    folded = {known.lower(): known for known in names}
    near = difflib.get_close_matches(name[:80].lower(), list(folded), n=3, cutoff=0.5)
    raise invalid(f"{field}.{name[:80]}", name, "is not an attribute of this model", [folded[n] for n in near])


def _within(value: float, field: str, limit: float) -> float:
    if not math.isfinite(value):
        raise invalid(field, value, "must be a finite number")
    if abs(value) > limit:
        raise invalid(field, value, f"must lie between {-limit:g} and {limit:g}")
    return value


def _refuse_contradictions(vector: np.ndarray, manifest: Manifest, field: str) -> None:
    first: dict[str, str] = {}
    for attribute, value in zip(manifest.attributes, vector, strict=True):
        if attribute.group and value > 0:
            other = first.setdefault(attribute.group, attribute.name)
            if other != attribute.name:
                rule = (
                    f"cannot be set together with {other}; attributes of the group {attribute.group} exclude each other"
                )
                raise invalid(f"{field}.{attribute.name}", float(value), rule)


def edit_target(asked: np.ndarray, manifest: Manifest) -> np.ndarray:
    """What an edit aims at, f32 [K]: `asked`, with the others of a group cleared when one of it is set."""
    return _clear_groups(asked, manifest.attribute_groups)


def _clear_groups(asked: np.ndarray, groups: Sequence[str | None]) -> np.ndarray:
    target = asked.copy()
    taken = {group for group, value in zip(groups, asked, strict=True) if group and value > 0}
    for index, group in enumerate(groups):
        if group in taken and not asked[index] > 0:
            target[index] = -1.0
    return target


def edited(shown: np.ndarray, target: np.ndarray, strength: float) -> np.ndarray:
    """a + t (target - a) for `shown` f32 [N, K]; attributes that `target` f32 [K] leaves NaN stay as shown."""
    return np.where(np.isnan(target), shown, shown + np.float32(strength) * (target - shown)).astype(np.float32)


def change(shown: np.ndarray, after: np.ndarray) -> np.ndarray:
    """What an editor is asked for, f32 [N, K], exactly 0 where attributes stay: the share of the way to plainly there
    or plainly gone, -1 to 1 for attributes of -1 to 1.

    Where an estimate is undecided there is no telling how far there is to go, and from 0 on it is as far as from 0: an
    attribute of which a face seems to show a little may as well not be there at all.
    """
    moved = after - shown
    way = np.maximum(1, 1 - np.sign(moved) * shown)
    return (moved / way).astype(np.float32)


def swept(shown: np.ndarray, attribute: str, target: float, strengths: np.ndarray, manifest: Manifest) -> np.ndarray:
    """Attributes f32 [T, N, K]: `shown` f32 [N, K] edited towards `target` in one attribute, at each strength f [T].

    Nothing goes beyond what decoders draw. Raises a 422 Problem for an unknown attribute.
    """
    aim = edit_target(attribute_vector({attribute: target}, manifest, "attribute"), manifest)
    return np.stack([edited(shown, aim, strength) for strength in strengths]).clip(-LEVEL_LIMIT, LEVEL_LIMIT)


def latent_matrix(latents: Sequence[Sequence[float]], manifest: Manifest, fields: Sequence[str]) -> np.ndarray:
    """f32 [N, Z] from N latents whose names for errors are `fields`.

    Raises a 422 Problem for a wrong length or a value that is not finite or beyond 1000.
    """
    for row, latent in enumerate(latents):
        if len(latent) != manifest.latent_size:
            rule = f"must have {manifest.latent_size} values for this model"
            raise invalid(fields[row], f"{len(latent)} values", rule)
        for place, value in enumerate(latent):
            _within(value, f"{fields[row]}.{place}", LATENT_LIMIT)
    return np.asarray(latents, dtype=np.float32)


class Sampler:
    """Draws latents and attributes from a bundle's prior.

    `groups` [K] names each attribute's exclusive group, or None. Each picture of a request has a random stream of its
    own, named by the seed and its place, so a picture does not depend on how many are asked for.
    """

    def __init__(self, prior: GaussianPrior | SamplingPrior, groups: Sequence[str | None]) -> None:
        prior = prior if isinstance(prior, GaussianPrior) else GaussianPrior.of(prior)
        self._latent_mean, self._latent_weights = prior.latent_mean, prior.latent_weights
        self._cholesky = prior.latent_cholesky
        self._groups = list(groups)
        self._mean, self._covariance = prior.attribute_mean, prior.attribute_covariance
        # A Gaussian above this is "present" as often as the label is; above 0 rare labels would hardly ever be.
        shares = (0.5 * (1 + self._mean)).clip(1e-4, 1 - 1e-4)
        quantiles = np.array([NormalDist().inv_cdf(1 - share) for share in shares])
        self._threshold = self._mean + quantiles * np.sqrt(np.diag(self._covariance))
        self._levels = prior.attribute_levels
        # Which attributes are asked for repeats from request to request, and takes a matrix inversion each time.
        self._conditioning = lru_cache(_KEPT_CONDITIONINGS)(partial(_condition, self._covariance))

    def latents(self, seed: int, attributes: np.ndarray, temperature: float = TEMPERATURE) -> np.ndarray:
        """f32 [N, Z] that go with `attributes` f32 [N, K]; `temperature` scales the deviation, 0 is the mean."""
        size = len(self._latent_mean)
        noise = np.empty((len(attributes), size), dtype=np.float32)
        for i, row in enumerate(noise):
            row[:] = self._stream(seed, i).standard_normal(size)
        mean = self._latent_mean + attributes.clip(-1, 1) @ self._latent_weights.T
        return (mean + np.float32(temperature) * noise @ self._cholesky.T).astype(np.float32, copy=False)

    def attributes(self, asked: np.ndarray, seed: int, count: int) -> np.ndarray:
        """f32 [count, K]: `asked` f32 [K] with its NaNs drawn so that they go with what was asked.

        The labels are taken to be jointly Gaussian, conditioned on the asked ones, and drawn values rounded to
        absent or present: whoever asks for a moustache mostly gets men. Drawn attributes are as plain as on most faces,
        where asked ones may be plainer.
        """
        asked = _clear_groups(asked, self._groups)
        rows = np.repeat(asked[None], count, axis=0)
        free = np.isnan(asked)
        if free.any():
            mean, cholesky = self._given(asked, free)
            for i in range(count):
                excess = mean + cholesky @ self._stream(seed, i, 1).standard_normal(len(mean)) - self._threshold[free]
                rows[i, free] = np.where(excess > 0, 1.0, -1.0)
                self._settle_groups(rows[i], excess, free)
        absent, present = self._levels.T
        return np.where(free, np.where(rows > 0, present, absent), rows)

    def expected(self, known: np.ndarray) -> np.ndarray:
        """`known` f32 [K] with each NaN replaced by its mean given the rest, within -1..1."""
        free = np.isnan(known)
        filled = known.copy()
        filled[free] = self._given(known, free)[0].clip(-1, 1)
        return filled

    def _given(self, known: np.ndarray, free: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Mean f64 [F] and Cholesky factor f64 [F, F] of the attributes that are `free`, given the others' values."""
        weights, cholesky = self._conditioning(tuple(free.tolist()))
        return self._mean[free] + weights @ (known[~free].clip(-1, 1) - self._mean[~free]), cholesky

    def _settle_groups(self, row: np.ndarray, excess: np.ndarray, free: np.ndarray) -> None:
        """Of a group's drawn attributes keep only the most strongly drawn one, in place."""
        score = np.full(len(row), np.inf)
        score[free] = excess
        for group in {name for name in self._groups if name}:
            members = [i for i, name in enumerate(self._groups) if name == group and row[i] > 0]
            for index in members:
                if free[index] and index != max(members, key=lambda i: score[i]):
                    row[index] = -1.0

    @staticmethod
    def _stream(seed: int, place: int, kind: int = 0) -> np.random.Generator:
        return np.random.default_rng([seed, place, kind])


def _condition(covariance: np.ndarray, free_attributes: tuple[bool, ...]) -> tuple[np.ndarray, np.ndarray]:
    """What conditioning a Gaussian on the attributes that are not free takes.

    Weights f64 [F, K - F], which turn their deviation into the mean of the free ones, and the Cholesky factor
    f64 [F, F] of what is left of the free ones' covariance.
    """
    free = np.array(free_attributes)
    # The ridge keeps constant attributes from making the matrix singular.
    inner = covariance[np.ix_(~free, ~free)] + 1e-3 * np.eye(int((~free).sum()))
    weights = np.linalg.solve(inner, covariance[np.ix_(~free, free)]).T
    rest = covariance[np.ix_(free, free)] - weights @ covariance[np.ix_(~free, free)]
    return weights, np.linalg.cholesky(rest + 1e-3 * np.eye(int(free.sum())))
