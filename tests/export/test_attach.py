"""Reports in a bundle: that of encoder and decoder, and that of photographs beside it, with what is not offered."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from export import writer
from service.bundle import loader
from service.bundle.loader import Bundle
from training import evaluation

SHIPPED = Path(__file__).parents[2] / "bundles" / "celeba64"


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    shutil.copytree(SHIPPED, tmp_path / "celeba64")
    return loader.load(tmp_path / "celeba64")


def report(bundle: Bundle, experimental: dict) -> dict:
    names = bundle.manifest.attribute_names
    values = {"mean": 0.5, "attributes": dict.fromkeys(names, 0.5)}
    both = {"both": values, "added": values, "removed": values}
    return {
        "kind": "photographs",
        "bundle": bundle.identity,
        "graphs": evaluation.graph_hashes(bundle),
        "pictures": 40,
        "faces": {"added": dict.fromkeys(names, 20), "removed": dict.fromkeys(names, 20)},
        "edits": {"balanced": values, **both},
        "side_effects": both,
        "realism": {"skipped": "no network"},
        "identity": {"skipped": "no package"},
        "locality": both,
        "detail": both,
        "gradual": both,
        "experimental": experimental,
    }


def test_a_report_on_photographs_stands_beside_the_other_and_marks_what_is_not_offered(bundle: Bundle):
    reasons = {"Bald": {"added": "seen on 14% of 103 faces"}}
    attached = writer.attach_evaluation(bundle.directory, report(bundle, reasons))
    manifest = attached.manifest
    assert {a.name: a.experimental for a in manifest.attributes if a.experimental} == reasons
    assert manifest.evaluation["photographs"]["pictures"] == 40
    assert manifest.evaluation["edit"] == bundle.manifest.evaluation["edit"]
    card = attached.path("MODEL_CARD.md").read_text()
    assert card.index("### Edits of photographs") < card.index("### Encoder and decoder")
    assert "| Bald | added | seen on 14% of 103 faces |" in card
    again = writer.attach_evaluation(bundle.directory, report(bundle, {})).manifest
    assert not any(attribute.experimental for attribute in again.attributes)


def test_the_other_report_leaves_that_on_photographs_in_place(bundle: Bundle):
    reasons = {"Bald": {"added": "seen on 14% of 103 faces"}}
    writer.attach_evaluation(bundle.directory, report(bundle, reasons))
    manifest = writer.attach_evaluation(bundle.directory, dict(bundle.manifest.evaluation)).manifest
    assert manifest.evaluation["photographs"]["kind"] == "photographs"
    assert manifest.attributes[manifest.attribute_names.index("Bald")].experimental == reasons["Bald"]


def test_a_report_about_other_graphs_is_refused(bundle: Bundle):
    with pytest.raises(writer.ExportError, match="is about other graphs, of celeba64@"):
        writer.attach_evaluation(bundle.directory, report(bundle, {}) | {"graphs": {}})
