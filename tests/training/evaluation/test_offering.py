"""Which edits a bundle does not offer by default, and why."""

from __future__ import annotations

from training.evaluation import offering


def entry(spoils: bool) -> dict:
    return {"ratio": 1.5, "noise": 0.1, "spoils": spoils, "kid_edited": 3.0, "kid_untouched": 2.0, "kid_noise": 0.2}


def test_an_edit_is_not_offered_for_either_reason():
    report = {
        "faces": {"added": {"Bald": 40, "Bangs": 40, "Young": 4}, "removed": {"Bald": 40, "Bangs": 40, "Young": 40}},
        "edits": {
            "added": {"attributes": {"Bald": 0.3, "Bangs": 0.9, "Young": 0.0}},
            "removed": {"attributes": {"Bald": 0.5, "Bangs": 0.2, "Young": None}},
        },
        "realism": {
            "added": {"attributes": {"Bald": entry(True), "Bangs": entry(False)}},
            "removed": {"attributes": {"Bangs": entry(True)}},
        },
    }
    found = offering.experimental(report)
    assert {name: set(ways) for name, ways in found.items()} == {"Bald": {"added"}, "Bangs": {"removed"}}
    assert "sees it on 30% of 40 faces; " in found["Bald"]["added"]
    assert "3.0 instead of 2.0, noise 0.2" in found["Bald"]["added"]
    assert offering.experimental(report | {"realism": {"skipped": "no network"}})["Bangs"]["removed"].endswith(
        "40 faces"
    )
