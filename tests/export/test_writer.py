import json
import os
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from export import writer
from export.__main__ import main
from export.graphs import round_weights
from service.bundle import loader
from training import evaluation

SHIPPED = Path(__file__).parents[2] / "bundles" / "celeba64"


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


@pytest.mark.parametrize("value", [65520.0, -70000.0, float("inf")])
def test_a_weight_beyond_half_precision_is_refused_by_name(value):
    layer = torch.nn.Linear(2, 2)
    with torch.no_grad():
        layer.weight[0, 1] = value
    with pytest.raises(ValueError, match=rf"weight has a weight of {abs(value):g}; stored as fp16, that ends at 65504"):
        round_weights(layer)


def test_a_weight_beyond_half_precision_is_not_exported(tmp_path, monkeypatch, capsys):
    model = torch.nn.Linear(2, 2)
    model.latent_size = 3
    with torch.no_grad():
        model.bias[1] = 1e5
    data = SimpleNamespace(attributes=["Smiling"], image_size=64)
    config = SimpleNamespace(name="mine", data=data)
    monkeypatch.setattr(writer.checkpoint, "load_model", lambda _: (model, config, {"prior": {}}))
    words = ["--checkpoint", "big.pt", "--out", str(tmp_path / "mine"), "--version", "1", "--weights-licence", "x"]
    assert main(["bundle", *words]) == 2
    assert capsys.readouterr().err == "error: big.pt: bias has a weight of 100000; stored as fp16, that ends at 65504\n"
    assert os.listdir(tmp_path) == []


def test_a_directory_that_cannot_be_made_is_one_line(tmp_path, capsys):
    words = ["--bundle", str(SHIPPED), "--out", "/proc/nope/celeba64"]
    assert main(["half", *words]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line == "error: /proc/nope: No such file or directory"


def test_parents_that_were_made_for_nothing_vanish(tmp_path):
    def fail():
        with writer.replacing(tmp_path / "deep" / "er" / "bundle"):
            raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        fail()
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("report", ["[]", "3", "null", '"text"', "{}", "[1", "\u00e4", "GRAPHS"])
def test_a_file_that_is_no_report_is_one_line_and_changes_nothing(tmp_path, capsys, report):
    shutil.copytree(SHIPPED, tmp_path / "celeba64")
    if report == "GRAPHS":  # of the right graphs, and of nothing else
        report = json.dumps({"graphs": evaluation.graph_hashes(loader.load(SHIPPED)), "edit": {}})
    (tmp_path / "report.json").write_text(report, encoding="latin-1")
    words = ["--bundle", str(tmp_path / "celeba64"), "--evaluation", str(tmp_path / "report.json")]
    assert main(["attach", *words]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    assert "report" in line
    if report[0] not in "{[\u00e4" or report == "[]":
        assert "report.json: is a JSON" in line
    assert (tmp_path / "celeba64" / "manifest.json").read_bytes() == (SHIPPED / "manifest.json").read_bytes()
    assert sorted(os.listdir(tmp_path)) == ["celeba64", "report.json"]
