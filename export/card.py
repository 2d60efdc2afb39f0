"""The model card: what a bundle is, what it was made from, how good it is, and what it is not for."""

from __future__ import annotations

from service.bundle.manifest import Manifest
from training import evaluation
from training.evaluation import photographs_tables, samples

_ON_GRAPHS = """\
An edit inverts one attribute of a held-out picture at strength 1; an independent classifier that took no part in
training or calibration says, at its threshold of 0.5, whether the picture now shows the opposite. Percentages of
*edit accuracy, mean* weigh every picture equally, so for a rare attribute they are mostly about adding it; the next
lines take adding and removing apart. The extra error on the other attributes leaves out those of the same exclusive
group, which an edit clears on purpose."""
_ON_PHOTOGRAPHS = """\
An edit inverts one attribute of a held-out picture at strength 1, through the service. An independent classifier, at
the thresholds at which its two errors on real faces are equal, says whether the edit shows, and what else changed. The
realism ratio is the kernel distance (KID, features of Inception V3) of edited pictures to real ones that have the asked
value, over that of the untouched pictures: below 1 an edit leads towards real pictures, above 1 away from them."""


def model_card(manifest: Manifest) -> str:
    """Markdown, wholly derived from the manifest."""
    training, frame = manifest.training, manifest.frame
    return f"""# {manifest.name} {manifest.version}

{manifest.description}

| | |
|---|---|
| picture | {frame.image_size} x {frame.image_size}, RGB |
| framing | the box {_box(frame.crop_box)} of an aligned {frame.aligned_size[0]} x {frame.aligned_size[1]} picture |
{_editor_rows(manifest)}| latent | {manifest.latent_size} values |
| trained | {training.epochs:g} epochs, seed {training.seed}, `{training.command}` |
| data | sha256 {training.data_sha256[:16]}... over names and labels |
| source commit | {training.source_commit} |
| licence of the weights | {manifest.weights_licence} |

## Intended use

Attribute editing in research and teaching, and trying out the Facet service, within the licence of the weights above.

## Out of scope

Identifying or classifying people, deciding anything about them, passing an edited picture off as a photograph, and
editing pictures of people who have not agreed to it.
{_experimental(manifest)}
## Attributes

Every label is an annotator's impression of a photograph, not a fact about a person. Attributes marked *sensitive* touch
on traits that people are discriminated for.

{_attributes(manifest)}

## Evaluation

{_evaluation(manifest.evaluation)}"""


def _evaluation(report: dict) -> str:
    parts = []
    if photographs_tables.KIND in report:
        tables = photographs_tables.markdown(report[photographs_tables.KIND])
        parts.append(f"### Edits of photographs\n\n{_ON_PHOTOGRAPHS}\n\n{tables}")
    if samples.KIND in report:
        parts.append(f"### Generated faces\n\n{samples.markdown(report[samples.KIND])}")
    if "edit" in report:
        heading = "### Encoder and decoder\n\n" if parts else ""
        parts.append(f"{heading}{_ON_GRAPHS}\n\n{evaluation.markdown(report)}")
    return "\n".join(parts) or "Not yet evaluated.\n"


def _editor_rows(manifest: Manifest) -> str:
    frame, training = manifest.editor_frame, manifest.editor_training
    if frame is None or training is None:
        return ""
    size = frame.image_size
    return (
        f"| editor | {size} x {size}, the box {_box(frame.crop_box)} of the same pictures |\n"
        f"| editor trained | {training.epochs:g} epochs, seed {training.seed}, `{training.command}` |\n"
    )


def _box(box: tuple[float, ...]) -> str:
    return "(" + ", ".join(f"{side:g}" for side in box) + ")"


def _experimental(manifest: Manifest) -> str:
    rows = [
        f"| {attribute.name} | {direction} | {reason} |"
        for attribute in manifest.attributes
        for direction, reason in attribute.experimental.items()
    ]
    if not rows:
        return ""
    head = "\n## Not offered by default\n\nEdits of photographs that take `experimental=true`.\n\n"
    return head + "| attribute | direction | why |\n|---|---|---|\n" + "\n".join(rows) + "\n"


def _attributes(manifest: Manifest) -> str:
    """A table, with the editor's gains where it has any."""
    lines = ["| attribute | meaning | group | sensitive | gain |", "|---|---|---|---|---|"]
    lines += [
        f"| {a.name} | {a.description} | {a.group or ''} | {'yes' if a.sensitive else ''} | {a.gain:g} |"
        for a in manifest.attributes
    ]
    if not any(a.editor_gains for a in manifest.attributes):
        return "\n".join(lines)
    gains = [", ".join(f"{way} {gain:g}" for way, gain in a.editor_gains.items()) for a in manifest.attributes]
    lines = [f"{line} {cell} |" for line, cell in zip(lines, ["editor's gains", "---", *gains], strict=True)]
    rule = "The editor multiplies a change by the gain of its attribute and direction, and by 1 where none is given."
    return "\n".join([rule, "", *lines])
