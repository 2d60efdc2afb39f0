from pathlib import Path
from types import SimpleNamespace

import pytest

from export import writer


def test_a_failed_write_leaves_the_old_bundle_and_no_rubbish(tmp_path):
    directory = tmp_path / "bundle"
    directory.mkdir()
    (directory / "old").write_text("old")

    def fail():
        with writer.replacing(directory) as temporary:
            (temporary / "new").write_text("new")
            raise RuntimeError("disk full")

    with pytest.raises(RuntimeError, match="disk full"):
        fail()
    assert [path.name for path in tmp_path.iterdir()] == ["bundle"]
    assert [path.name for path in directory.iterdir()] == ["old"]


def test_a_finished_write_replaces_the_old_bundle(tmp_path):
    directory = tmp_path / "bundles" / "bundle"
    for content in ("first", "second"):
        with writer.replacing(directory) as temporary:
            (temporary / content).write_text(content)
    assert [path.name for path in directory.iterdir()] == ["second"]
    assert [path.name for path in directory.parent.iterdir()] == ["bundle"]


def test_a_model_that_rates_looks_is_not_exported(tmp_path, monkeypatch):
    data = SimpleNamespace(attributes=["Smiling", "Attractive"], image_size=64)
    model, config = SimpleNamespace(latent_size=3), SimpleNamespace(name="mine", data=data)
    monkeypatch.setattr(writer.checkpoint, "load_model", lambda _: (model, config, {"prior": {}}))
    with pytest.raises(writer.ExportError, match=r"good\.pt: attributes: Attractive .* never offered"):
        writer.write_bundle(Path("good.pt"), tmp_path / "mine", "1", "", "")
    assert list(tmp_path.iterdir()) == []
