"""The bundle: the only contract between training and serving. One schema, read here and written by `export`.

bundles/<name>/
    manifest.json  encoder.onnx  decoder.onnx  gaussian_prior.npz  MODEL_CARD.md  samples.png
                   [editor.onnx  editor_samples.png]  [prior.onnx]

| graph   | inputs                                   | outputs                                                 |
|---------|------------------------------------------|---------------------------------------------------------|
| encoder | image u8 [N,S,S,3], attributes f32 [N,K] | mean, log_variance f32 [N,Z], attribute_estimates [N,K] |
| decoder | latent f32 [N,Z], attributes f32 [N,K]   | image u8 [N,S,S,3]                                      |
| editor  | image u8 [N,E,E,3], change f32 [N,K]     | mask f32 [N,E,E,1], gain, residual [3], flow [2]        |
| prior   | noise f32 [N,Z], attributes f32 [N,K]    | latent f32 [N,Z]                                        |

Every bundle has an encoder and a decoder. With a bundle without an editor, photographs are edited by the difference of
two decodes. With a bundle without a learned prior, the latents of generated faces are drawn from the Gaussian one; the
attributes that a request leaves out always are. Bundles of schema 1 have neither, and the arrays of their prior are in
the manifest.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cached_property
from pathlib import Path
from typing import Annotated, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, JsonValue, model_validator

from service.bundle.gaussian_prior import PRIOR_FILE

SCHEMA_VERSION = 2
MANIFEST = "manifest.json"
GraphKind = Literal["encoder", "decoder", "editor", "prior"]
GRAPH_KINDS: tuple[GraphKind, ...] = get_args(GraphKind)
GRAPHS = ("encoder.onnx", "decoder.onnx")  # of every bundle
EDITOR, LEARNED_PRIOR = "editor.onnx", "prior.onnx"
EDITOR_SAMPLES = "editor_samples.png"
REQUIRED_FILES = (*GRAPHS, "MODEL_CARD.md", "samples.png")
Direction = Literal["added", "removed"]
EditorGains = dict[Direction, Annotated[float, Field(gt=0, le=2)]]  # of one attribute
_Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=64)]
_Alias = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9 ._-]*$", max_length=64)]
_Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class BundleError(ValueError):
    """A bundle that is refused; the message names the file and the broken rule."""

    def __init__(self, path: Path, rule: str) -> None:
        super().__init__(f"{path}: {rule}")
        self.path, self.rule = path, rule


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class FaceFrame(_Part):
    """The crop of an aligned picture that the model sees. Boxes and points are in pixels of the aligned picture."""

    image_size: int = Field(ge=1, description="side of the model's square picture")
    aligned_size: tuple[int, int] = Field(description="width and height of an aligned picture")
    crop_box: tuple[float, float, float, float] = Field(description="left, top, right, bottom")
    landmarks: list[tuple[float, float]] = Field(
        min_length=5, max_length=5, description="left eye, right eye, nose, left and right mouth corner"
    )

    @model_validator(mode="after")
    def _box_is_square(self) -> FaceFrame:
        left, top, right, bottom = self.crop_box
        if not (right > left and bottom > top and abs((right - left) - (bottom - top)) < 1e-6):
            raise ValueError(f"crop_box {self.crop_box} must be a square with a positive side")
        return self


class Attribute(_Part):
    """One attribute; the manifest lists them in the order of the graphs' vectors."""

    name: _Name
    description: str
    group: str | None = Field(default=None, description="attributes of a group exclude each other")
    gain: float = Field(description="calibration of the latent step; already inside the graphs")
    sensitive: bool = False
    aliases: list[_Alias] = Field(default=[], description="other names that requests may use")
    opposites: list[_Alias] = Field(default=[], description="names of its absence, whose values are its own negated")
    editor_gains: EditorGains = Field(
        default={},
        exclude_if=lambda gains: not gains,  # so that services before them read bundles without them
        description="calibration of the editor's changes; already inside its graph, 1 where none is given",
    )
    experimental: dict[Direction, Annotated[str, Field(min_length=1)]] = Field(
        default={}, description="directions whose edits of photographs are not offered by default, and why, as measured"
    )


class AttributePrior(_Part):
    """The distribution of the training labels, in -1..1: `attribute_mean` [K] and `attribute_covariance` [K][K].

    `attribute_levels` [K][2] are typical values of faces without and with an attribute; -1 and 1 if missing.
    """

    attribute_mean: list[float]
    attribute_covariance: list[list[float]]
    attribute_levels: list[tuple[float, float]] | None = None


class SamplingPrior(AttributePrior):
    """Gaussians fitted to the training set, from which faces are generated; the form of checkpoints and of schema 1.

    Given attributes a, latents have the mean `latent_mean` [Z] + `latent_weights` [Z][K] a, and the covariance with the
    Cholesky factor `latent_cholesky` (lower triangle, row i has i + 1 values).
    """

    latent_mean: list[float]
    latent_weights: list[list[float]]
    latent_cholesky: list[list[float]]

    @property
    def attributes_alone(self) -> AttributePrior:
        """Without the latents' arrays: the form of the manifest in schema 2."""
        return AttributePrior.model_validate(self.model_dump(include=set(AttributePrior.model_fields)))


class Tensor(_Part):
    """A graph input or output; the batch axis is the string "N"."""

    name: str
    dtype: Literal["uint8", "float32"]
    shape: list[int | Literal["N"]]


class FileEntry(_Part):
    """A file of the bundle; `inputs` and `outputs` only for graphs."""

    sha256: _Sha256
    bytes: int = Field(ge=0)
    inputs: list[Tensor] = []
    outputs: list[Tensor] = []


class Parity(_Part):
    """Largest differences between torch and ONNX Runtime, measured at export for the batch sizes `batches`.

    For graphs in half precision: between them and the graphs in single precision that they were converted from.
    """

    batches: list[int]
    tolerance: dict[str, float]
    max_error: dict[str, float]


class Training(_Part):
    """The origin of the weights, for reproduction."""

    config: dict[str, JsonValue]
    epochs: float
    seed: int
    data_sha256: _Sha256
    command: str
    source_commit: str
    classifier_sha256: _Sha256 | None = Field(
        default=None, description="of the weights of the classifier that chose the gains, who may not judge them"
    )


class Manifest(_Part):
    """The complete description of a bundle. Nothing about a model is configured anywhere else."""

    schema_version: Literal[2]
    name: _Name
    version: _Name
    description: str
    weights_licence: str
    frame: FaceFrame
    editor_frame: FaceFrame | None = Field(default=None, description="of the editor's pictures; its own size and box")
    latent_size: int = Field(ge=1)
    attributes: list[Attribute] = Field(min_length=1)
    prior: AttributePrior
    files: dict[str, FileEntry]
    parity: dict[str, Parity]
    training: Training
    editor_training: Training | None = Field(default=None, description="of the editor's weights")
    prior_training: Training | None = Field(default=None, description="of the learned prior's weights")
    decoder_training: Training | None = Field(
        default=None, description="of the decoder, where it was trained further after the encoder"
    )
    evaluation: dict[str, JsonValue]

    @property
    def attribute_names(self) -> list[str]:
        return [attribute.name for attribute in self.attributes]

    @property
    def attribute_groups(self) -> list[str | None]:
        return [attribute.group for attribute in self.attributes]

    @cached_property
    def spellings(self) -> dict[str, tuple[str, int]]:
        """Each name that requests may use, `folded`, with the attribute's own and -1 where its values are negated."""
        found: dict[str, tuple[str, int]] = {}
        for attribute in self.attributes:
            for sign, names in ((1, [attribute.name, *attribute.aliases]), (-1, attribute.opposites)):
                found |= {folded(name): (attribute.name, sign) for name in names}
        return found

    @property
    def graph_kinds(self) -> tuple[GraphKind, ...]:
        """The graphs of this bundle that the service runs."""
        return tuple(kind for kind in GRAPH_KINDS if f"{kind}.onnx" in self.files)

    @property
    def graphs(self) -> tuple[str, ...]:
        """The files of `graph_kinds`."""
        return tuple(f"{kind}.onnx" for kind in self.graph_kinds)

    @property
    def required_files(self) -> tuple[str, ...]:
        return (*REQUIRED_FILES, PRIOR_FILE, *((EDITOR_SAMPLES,) if EDITOR in self.files else ()))

    @model_validator(mode="after")
    def _sizes_agree(self) -> Manifest:
        names, latent, count = self.attribute_names, self.latent_size, len(self.attributes)
        if len(set(names)) != count:
            raise ValueError("attributes: a name is listed twice")
        refuse_ratings(names)
        self._check_aliases()
        self._check_schema()
        prior = self.prior
        if len(prior.attribute_mean) != count or [len(r) for r in prior.attribute_covariance] != [count] * count:
            raise ValueError(f"prior: attribute_mean and attribute_covariance must describe {count} attributes")
        if prior.attribute_levels is not None and len(prior.attribute_levels) != count:
            raise ValueError(f"prior: attribute_levels must describe {count} attributes")
        if missing := [name for name in self.required_files if name not in self.files]:
            raise ValueError(f"files: {missing[0]} is not listed")
        _check_editor_frame(self.frame, self.editor_frame, EDITOR in self.files)
        interfaces = graph_interfaces(
            self.frame.image_size, latent, count, self.editor_frame and self.editor_frame.image_size
        )
        if LEARNED_PRIOR in self.files:
            interfaces[LEARNED_PRIOR] = learned_prior_interface(latent, count)
        for graph, (inputs, outputs) in interfaces.items():
            entry = self.files[graph]
            if entry.inputs != inputs or entry.outputs != outputs:
                raise ValueError(f"files.{graph}: inputs or outputs differ from what the sizes above imply")
        return self

    def _check_aliases(self) -> None:
        taken = {folded(name) for name in self.attribute_names}
        for attribute in self.attributes:
            for alias in (*attribute.aliases, *attribute.opposites):
                if folded(alias) in taken:
                    raise ValueError(f"attributes: {alias}, an alias of {attribute.name}, is another name as well")
                refuse_ratings([alias])
                taken.add(folded(alias))

    def _check_schema(self) -> None:
        """Raises ValueError for what this schema version does not allow."""


class ManifestOfSchema1(Manifest):
    """Schema 1: without editors, and with the whole prior in the manifest."""

    schema_version: Literal[1]
    prior: SamplingPrior

    @property
    def required_files(self) -> tuple[str, ...]:
        return REQUIRED_FILES

    def _check_schema(self) -> None:
        later = (self.editor_frame, self.editor_training, self.prior_training, self.decoder_training)
        if any(later) or any(attribute.experimental for attribute in self.attributes):
            raise ValueError("schema_version 1 has no editor, no learned prior and no experimental attributes")
        if newer := {EDITOR, LEARNED_PRIOR, PRIOR_FILE} & set(self.files):
            raise ValueError(f"files: schema_version 1 has no {min(newer)}")
        prior, latent, count = self.prior, self.latent_size, len(self.attributes)
        if len(prior.latent_mean) != latent or [len(r) for r in prior.latent_cholesky] != list(range(1, latent + 1)):
            raise ValueError(f"prior: latent_mean and latent_cholesky must describe {latent} dimensions")
        if [len(row) for row in prior.latent_weights] != [count] * latent:
            raise ValueError(f"prior: latent_weights must map {count} attributes to {latent} dimensions")


def _check_editor_frame(frame: FaceFrame, editor_frame: FaceFrame | None, has_editor: bool) -> None:
    """Raises ValueError if only one of frame and graph is given, or the frames have different aligned pictures."""
    if has_editor and editor_frame is None:
        raise ValueError(f"editor_frame: is required where files lists {EDITOR}")
    if editor_frame is None:
        return
    if not has_editor:
        raise ValueError(f"files: {EDITOR} is not listed, and editor_frame is given")
    for field in ("aligned_size", "landmarks"):
        if getattr(editor_frame, field) != getattr(frame, field):
            raise ValueError(f"editor_frame.{field}: must be that of frame")


def folded(name: str) -> str:
    """A name without what makes no difference in requests: letter case, and whatever is no letter or digit."""
    return "".join(filter(str.isalnum, name.casefold()))


def refuse_ratings(names: Iterable[str]) -> None:
    """Raises ValueError for CelebA's attribute Attractive, which only rates people. No bundle may have it."""
    for name in names:
        if folded(name) == "attractive":
            raise ValueError(f"attributes: {name} rates people's looks and is never offered; train without it")


Interface = tuple[list[Tensor], list[Tensor]]


def graph_interfaces(
    image_size: int, latent_size: int, attributes: int, editor_size: int | None = None
) -> dict[str, Interface]:
    """Inputs and outputs of each graph file for a model of these sizes; with an editor if `editor_size` is given."""
    image = Tensor(name="image", dtype="uint8", shape=["N", image_size, image_size, 3])
    known = Tensor(name="attributes", dtype="float32", shape=["N", attributes])
    estimates = known.model_copy(update={"name": "attribute_estimates"})
    latent = Tensor(name="latent", dtype="float32", shape=["N", latent_size])
    mean, log_variance = (latent.model_copy(update={"name": name}) for name in ("mean", "log_variance"))
    return {
        "encoder.onnx": ([image, known], [mean, log_variance, estimates]),
        "decoder.onnx": ([latent, known], [image]),
    } | ({} if editor_size is None else {EDITOR: _editor_interface(editor_size, attributes)})


def _editor_interface(size: int, attributes: int) -> Interface:
    image = Tensor(name="image", dtype="uint8", shape=["N", size, size, 3])
    change = Tensor(name="change", dtype="float32", shape=["N", attributes])
    channels = {"mask": 1, "gain": 3, "residual": 3, "flow": 2}
    fields = [Tensor(name=n, dtype="float32", shape=["N", size, size, count]) for n, count in channels.items()]
    return [image, change], fields


def learned_prior_interface(latent_size: int, attributes: int) -> Interface:
    """Inputs and outputs of the graph of a learned prior."""
    noise = Tensor(name="noise", dtype="float32", shape=["N", latent_size])
    known = Tensor(name="attributes", dtype="float32", shape=["N", attributes])
    return [noise, known], [noise.model_copy(update={"name": "latent"})]
