"""The documents: links lead somewhere, named files exist, and the changelog has the package's version."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from tests.markdown import broken_links, fragments

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = sorted(
    path.relative_to(ROOT)
    for pattern in ("*.md", "docs/*.md", "benchmarks/**/*.md", "bundles/*/*.md")
    for path in ROOT.glob(pattern)
)


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_every_relative_link_leads_somewhere(page: Path):
    assert broken_links(ROOT / page) == []


def test_a_broken_link_is_found(tmp_path: Path):
    (tmp_path / "other.md").write_text("# One, two: `three`\n\n## Again\n\n## Again\n\n```sh\n# no heading\n```\n")
    assert fragments((tmp_path / "other.md").read_text()) == {"one-two-three", "again", "again-1"}
    page = tmp_path / "page.md"
    page.write_text(
        "# Here\n[1](other.md#again-1) [2](#here) [3](https://example.org/#no) `[4](no.md)`\n"
        "[5](no.md) [6](other.md#no-heading) ![7](no.jpg) [8](#there)\n"
    )
    assert broken_links(page) == ["no.md", "other.md#no-heading", "no.jpg", "#there"]


@pytest.mark.parametrize("page", [page for page in PAGES if page.name != "CHANGELOG.md"], ids=str)
def test_every_named_file_exists(page: Path):
    """Code spans such as `service/app.py`; documents may leave `service/` out."""
    text = (ROOT / page).read_text(encoding="utf-8")
    named = re.findall(r"`((?:[\w.-]+/)+[\w.-]+\.(?:py|toml|yml|yaml|conf))`", text)
    assert [name for name in named if not any((root / name).is_file() for root in (ROOT, ROOT / "service"))] == []


def test_every_package_of_the_service_is_in_the_architecture():
    page = (DOCS / "architecture.md").read_text(encoding="utf-8")
    packages = [path.parent.name for path in (ROOT / "service").glob("*/__init__.py")]
    assert len(packages) > 5
    assert [name for name in packages if f"| `{name}/` |" not in page] == []


def test_the_newest_version_of_the_changelog_is_the_packages():
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    versions = re.findall(r"^## (\d+\.\d+\.\d+) \(\d{4}-\d\d-\d\d\)$", changelog, flags=re.MULTILINE)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert versions[0] == project["version"]
    assert versions == sorted(versions, key=lambda version: [*map(int, version.split("."))], reverse=True)
    for overlay, suffix in (("cpu", ""), ("gpu", "-cuda")):
        text = (ROOT / "deploy/kubernetes/overlays" / overlay / "kustomization.yaml").read_text(encoding="utf-8")
        assert f"newTag: {versions[0]}{suffix}}}" in text
