"""The architecture holds: every import obeys the contracts in pyproject.toml."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
# In a process of its own: the linter changes sys.path.
_LINT = "import sys; from importlinter.cli import lint_imports; sys.exit(lint_imports({}, no_cache=True, no_logo=True))"


def lint(configuration: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", _LINT.format(repr(str(configuration)))]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)


def test_imports_obey_the_layers():
    done = lint(ROOT / "pyproject.toml")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 broken" in done.stdout


def test_an_import_of_a_higher_layer_is_found(tmp_path: Path):
    """With errors as the highest layer, the imports of it are reported."""
    lowest = '    "errors | system",\n'
    above, below = (ROOT / "pyproject.toml").read_text(encoding="utf-8").split(lowest)
    configuration = tmp_path / "pyproject.toml"
    configuration.write_text(above.replace("layers = [\n", f"layers = [\n{lowest}") + below, encoding="utf-8")
    done = lint(configuration)
    assert done.returncode == 1
    assert "service.imaging is not allowed to import service.errors" in done.stdout
