"""What `kubectl kustomize` gives, of the little that deploy/kubernetes uses: resources, images and JSON patches."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import yaml

Manifest = dict[str, Any]
_KNOWN = {"apiVersion", "kind", "resources", "images", "patches"}


def build(directory: Path) -> list[Manifest]:
    """The manifests of a kustomization, in order. Raises AssertionError for what leads nowhere or is not known here."""
    kustomization = yaml.safe_load((directory / "kustomization.yaml").read_text(encoding="utf-8"))
    assert set(kustomization) <= _KNOWN, set(kustomization) - _KNOWN
    found: list[Manifest] = []
    for name in kustomization["resources"]:
        path = directory / name
        if path.is_dir():
            found += build(path)
        else:
            found += [each for each in yaml.safe_load_all(path.read_text(encoding="utf-8")) if each]
    for image in kustomization.get("images", []):
        assert _rename(found, image), f"no container has the image {image['name']}"
    for patch in kustomization.get("patches", []):
        chosen = [each for each in found if _is_meant(each, patch["target"])]
        assert chosen, f"nothing is {patch['target']}"
        for each in chosen:
            for operation in yaml.safe_load(patch["patch"]):
                apply(each, operation)
    return found


def apply(document: Any, operation: dict[str, Any]) -> None:
    """One operation of RFC 6902 on a document, in place. Raises AssertionError where its path leads nowhere."""
    *parents, last = operation["path"].lstrip("/").split("/")
    holder = document
    for part in parents:
        holder = holder[int(part) if isinstance(holder, list) else part]
    key = int(last) if isinstance(holder, list) and last != "-" else last
    there = key in holder if isinstance(holder, dict) else isinstance(key, int) and key < len(holder)
    match operation["op"]:
        case "add" if isinstance(holder, list):
            holder.insert(len(holder) if key == "-" else key, copy.deepcopy(operation["value"]))
        case "add":
            holder[key] = copy.deepcopy(operation["value"])
        case "replace":
            assert there, operation
            holder[key] = copy.deepcopy(operation["value"])
        case "remove":
            assert there, operation
            del holder[key]
        case other:
            raise AssertionError(f"op {other!r}")


def _is_meant(manifest: Manifest, target: dict[str, str]) -> bool:
    return (manifest["kind"], manifest["metadata"]["name"]) == (target["kind"], target["name"])


def _rename(manifests: list[Manifest], image: dict[str, str]) -> bool:
    done = False
    for manifest in manifests:
        pod = manifest.get("spec", {}).get("template", {}).get("spec", {})
        for container in pod.get("containers", []):
            if container["image"].partition(":")[0] == image["name"]:
                container["image"] = f"{image['newName']}:{image['newTag']}"
                done = True
    return done
