"""A run's record as a page."""

import json
import re
from html.parser import HTMLParser

import pytest

from tests import painter
from tests.training.editor.test_trainer import make as make_editor
from tests.training.trainers import make_trainer
from training.__main__ import main

VOID = {"meta", "img", "polyline", "circle", "br"}


class Page(HTMLParser):
    """Tags that were opened and closed, and the text of cells."""

    def __init__(self, text):
        super().__init__()
        self.open, self.counts, self.rows = [], {}, []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.counts[tag] = self.counts.get(tag, 0) + 1
        if tag not in VOID:
            self.open.append(tag)
        if tag == "tr":
            self.rows.append([])

    def handle_startendtag(self, tag, attributes):
        self.counts[tag] = self.counts.get(tag, 0) + 1

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, text):
        if self.open and self.open[-1] == "td":
            self.rows[-1].append(text)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Two runs of the VAE that differ in one value, the first of them evaluated."""
    data = painter.write_dataset(tmp_path_factory.mktemp("few"), train=32, validation=8)
    root = tmp_path_factory.mktemp("runs")
    for name, beta in (("one", 1.0), ("two", 4.0)):
        assert make_trainer(data, root / "cache", root / name, f"loss.beta={beta}").fit()
    (root / "one" / "evaluation").mkdir()
    values = {"mean": 0.625, "attributes": {"Smiling": 0.5, "Pale_Skin": 0.75}}
    report = {"bundle": "one@1", "edit": {"raw": {"accuracy": values}}, "reconstruction": {"ssim": 0.75}, "pictures": 8}
    (root / "one" / "evaluation" / "evaluation.json").write_text(json.dumps(report))
    return root


def test_one_run_has_its_facts_curves_sheets_and_figures(runs, capsys):
    assert main(["report", str(runs / "one")]) == 0
    assert capsys.readouterr().out == f"{runs}/one/report.html\n"
    text = (runs / "one" / "report.html").read_text()
    page = Page(text)
    rows = {row[0]: row[1:] for row in page.rows if len(row) > 1}
    assert rows["step"] == ["12"]
    assert rows["train.learning_rate"] == ["0.002"]  # not the default
    assert "train.warmup_steps" in rows
    assert "loss.beta" not in rows
    assert rows["evaluation / edit / raw / accuracy"] == ["0.625"]
    assert rows["evaluation / reconstruction / ssim"] == ["0.75"]
    assert float(rows["validation/psnr"][0]) > 0
    assert page.counts["img"] == 3  # a sheet of each epoch
    assert page.counts["polyline"] == page.counts["svg"] == page.counts["figcaption"]
    assert "http" not in text  # nothing is fetched


def test_two_runs_stand_beside_each_other(runs, tmp_path):
    out = tmp_path / "both.html"
    assert main(["report", str(runs / "one"), str(runs / "two"), "--out", str(out), "--sheets", "2"]) == 0
    page = Page(out.read_text())
    rows = {row[0]: row[1:] for row in page.rows if len(row) > 1}
    assert rows["loss.beta"] == ["1.0", "4.0"]
    assert not [name for name in rows if name.startswith(("train.", "model."))]  # which are the same
    assert rows["evaluation / reconstruction / ssim"] == ["0.75", "-"]
    assert page.counts["img"] == 4
    assert page.counts["polyline"] == 2 * page.counts["svg"]


def test_a_line_goes_through_its_values(runs):
    assert main(["report", str(runs / "one")]) == 0
    text = (runs / "one" / "report.html").read_text()
    (svg,) = re.findall(r"validation/psnr</figcaption>(.*?)</figure>", text)
    points = re.search(r'points="([^"]*)"', svg).group(1).split()
    assert len(points) == 3  # a validation after each epoch
    across = [float(point.split(",")[0]) for point in points]
    assert across == sorted(across)
    assert across[0] >= 0
    assert across[-1] <= 420


def test_an_editors_run_has_a_page_too(tmp_path):
    assert make_editor(tmp_path / "run").fit()
    assert main(["report", str(tmp_path / "run")]) == 0
    page = Page((tmp_path / "run" / "report.html").read_text())
    rows = {row[0]: row[1:] for row in page.rows if len(row) > 1}
    assert rows["train.steps"] == ["8"]
    assert "validation/edits_shown" in rows


def test_what_is_no_run_is_one_line(tmp_path, capsys, runs):
    assert main(["report", str(tmp_path)]) == 2
    assert "last.pt: no such checkpoint" in capsys.readouterr().err
    assert main(["report", *[str(runs / "one")] * 3]) == 2
    assert "3 runs: one or two" in capsys.readouterr().err
