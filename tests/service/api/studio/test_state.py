"""The studio's state and rules, run by node without a browser."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from service.api import pages

TESTS = Path(__file__).with_name("state.test.mjs")


def test_the_state_keeps_its_rules(tmp_path: Path):
    if shutil.which("node") is None:
        pytest.skip("node is not installed (apt-get install nodejs)")
    # Node takes .js for modules only where a package says so.
    root = tmp_path / "service" / "api" / "static"
    shutil.copytree(pages.STUDIO.directory, root / "studio")
    (tmp_path / "package.json").write_text('{"type": "module"}', encoding="utf-8")
    copy = tmp_path / "tests" / "service" / "api" / "studio" / TESTS.name
    copy.parent.mkdir(parents=True)
    shutil.copy(TESTS, copy)
    done = subprocess.run(["node", "--test", str(copy)], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
