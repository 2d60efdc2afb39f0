"""Signed provenance manifests of the Coalition for Content Provenance and Authenticity (C2PA).

The operator's certificate signs them. They need the package c2pa-python (the extra `c2pa`), which is imported only when
it is used.
"""

from __future__ import annotations

import importlib.util
import io
import json
import logging
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from PIL import Image

from service.errors import Problem
from service.imaging import codecs
from service.settings import Settings
from service.system import VERSION

log = logging.getLogger(__name__)

# No thumbnails, because an ingredient's thumbnail is a copy of the upload. No URL in a picture is fetched.
_SETTINGS = {
    "builder": {"thumbnail": {"enabled": False}},
    "verify": {"remote_manifest_fetch": False, "ocsp_fetch": False, "verify_after_sign": False},
}
_BLANK = "http://cv.iptc.org/newscodes/digitalsourcetype/digitalCreation"  # of the picture that tests the credentials
_INGREDIENT = "original"
_OPENED = {"action": "c2pa.opened", "parameters": {"ingredientIds": [_INGREDIENT]}}

_CURVES = {"secp256r1": "es256", "secp384r1": "es384"}


class CredentialsError(ValueError):
    """Credentials that are refused; the message names the file and the broken rule."""

    def __init__(self, path: Path | str, rule: str) -> None:
        super().__init__(f"{path}: {rule}")
        self.path, self.rule = path, rule


@dataclass(frozen=True)
class Agent:
    """The model that made a picture, as manifests name it."""

    name: str
    version: str


@dataclass(frozen=True)
class C2paManifest:
    """The manifest of a picture.

    `state` is `Invalid` if the picture or the manifest was changed after signing, `Trusted` if this service's own
    credentials signed it, and else `Valid`: signed by another party, whose certificate this service does not check.
    """

    state: str
    issuer: str | None
    generator: str | None
    digital_source_types: list[str]
    ingredients: int
    failures: list[str]


class Credentials:
    """A certificate chain, the signer's first, and its private key, both PEM files. They are tested by signing.

    With `timestamp_url`, a time-stamping authority (RFC 3161) countersigns. Raises CredentialsError.
    """

    def __init__(self, certificate: Path, private_key: Path, timestamp_url: str = "") -> None:
        if not installed():
            raise CredentialsError(certificate, "cannot be used: c2pa-python is not installed; install the extra c2pa")
        import c2pa

        chain, key = _text(certificate), _text(private_key)
        algorithm = _algorithm(private_key, key)
        try:
            self._context = _context(chain)
            info = c2pa.C2paSignerInfo(algorithm, chain.encode(), key.encode(), timestamp_url or None)
            self._signer = c2pa.Signer.from_info(info)
            signed = self._signed(_blank(), "image/png", [{"action": "c2pa.created", "digitalSourceType": _BLANK}])
        except c2pa.C2paError as exc:
            who = timestamp_url if "http resolver" in str(exc) else certificate
            raise CredentialsError(who, f"does not sign: {exc}") from exc
        if read(signed, self).state == "Invalid":
            raise CredentialsError(private_key, f"is not the key of the first certificate in {certificate}")

    @staticmethod
    def of(settings: Settings) -> Credentials | None:
        """The credentials of the settings, or None. Raises CredentialsError."""
        certificate, key = settings.c2pa_certificate, settings.c2pa_private_key
        if not certificate and not key:
            return None
        if not certificate or not key:
            missing = "FACET_C2PA_PRIVATE_KEY" if certificate else "FACET_C2PA_CERTIFICATE"
            raise CredentialsError(certificate or key, f"is of no use alone: {missing} is not set")
        return Credentials(Path(certificate), Path(key), settings.c2pa_timestamp_url)

    def sign(self, data: bytes, media_type: str, source_type: str, agent: Agent, original: bytes | None) -> bytes:
        """The encoded picture with a signed manifest, which includes the manifest of the edited photograph `original`.

        Raises a 503 Problem if signing fails, so that no picture leaves unsigned.
        """
        import c2pa

        software = {"name": agent.name, "version": agent.version}
        action = {"digitalSourceType": source_type, "softwareAgent": software}
        try:
            if original is not None:
                try:
                    return self._signed(data, media_type, [_OPENED, action | {"action": "c2pa.edited"}], original)
                except c2pa.C2paError as exc:
                    # The upload's own manifest is damaged, so the new one does not refer to it.
                    log.info("a picture's manifest cannot be kept: %s", type(exc).__name__)
            return self._signed(data, media_type, [action | {"action": "c2pa.created"}])
        except c2pa.C2paError as exc:
            log.error("a picture could not be signed: %s", exc)
            raise Problem(503, "the picture could not be signed", headers={"Retry-After": "5"}) from exc

    def _signed(
        self, data: bytes, media_type: str, actions: list[dict[str, Any]], original: bytes | None = None
    ) -> bytes:
        import c2pa

        manifest = {
            "claim_generator_info": [{"name": "Facet", "version": VERSION}],
            "assertions": [{"label": "c2pa.actions", "data": {"actions": actions}}],
        }
        signed = io.BytesIO()
        with c2pa.Builder(manifest, self._context) as builder:
            if original is not None:
                ingredient = {"title": _INGREDIENT, "relationship": "parentOf", "label": _INGREDIENT}
                builder.add_ingredient(json.dumps(ingredient), _media_type(original), io.BytesIO(original))
            builder.sign(self._signer, media_type, io.BytesIO(data), signed)
        return signed.getvalue()


@lru_cache
def installed() -> bool:
    """Whether the package c2pa-python is installed."""
    return importlib.util.find_spec("c2pa") is not None


def read(data: bytes, own: Credentials | None = None) -> C2paManifest | None:
    """The manifest of an encoded picture, or None."""
    import c2pa

    context = own._context if own is not None else _context()
    try:
        reader = c2pa.Reader.try_create(_media_type(data), io.BytesIO(data), context=context)
        if reader is None:
            return None
        with reader:
            return _manifest(json.loads(reader.json()), reader.get_validation_state())
    except (c2pa.C2paError, ValueError):
        return C2paManifest("Invalid", None, None, [], 0, ["unreadable"]) if b"c2pa" in data else None


def _manifest(report: dict[str, Any], state: str | None) -> C2paManifest:
    manifest = report.get("manifests", {}).get(report.get("active_manifest"), {})
    actions = [
        action
        for assertion in manifest.get("assertions", [])
        if assertion["label"].startswith("c2pa.actions")
        for action in assertion["data"].get("actions", [])
    ]
    generators = manifest.get("claim_generator_info") or [{"name": manifest.get("claim_generator")}]
    return C2paManifest(
        state=state or "Invalid",
        issuer=manifest.get("signature_info", {}).get("issuer"),
        generator=generators[0].get("name"),
        digital_source_types=[action["digitalSourceType"] for action in actions if "digitalSourceType" in action],
        ingredients=len(manifest.get("ingredients", [])),
        failures=[failure["code"] for failure in report.get("validation_status", [])],
    )


@lru_cache(maxsize=4)
def _context(trusted: str = "") -> Any:
    import c2pa

    return c2pa.Context.from_dict(_SETTINGS | ({"trust": {"user_anchors": trusted}} if trusted else {}))


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii")
    except OSError as exc:
        raise CredentialsError(path, f"cannot be read: {exc.strerror}") from exc
    except ValueError as exc:
        raise CredentialsError(path, "must be PEM") from exc


def _algorithm(path: Path, key: str) -> str:
    """The signature algorithm that C2PA prescribes for a key. Raises CredentialsError for other kinds of keys."""
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        found = load_pem_private_key(key.encode(), password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as exc:
        raise CredentialsError(path, "must be a private key in PEM, without a password") from exc
    if isinstance(found, ec.EllipticCurvePrivateKey) and found.curve.name in _CURVES:
        return _CURVES[found.curve.name]
    if isinstance(found, rsa.RSAPrivateKey):
        return "ps256"
    if isinstance(found, ed25519.Ed25519PrivateKey):
        return "ed25519"
    raise CredentialsError(path, "must be a key of P-256, P-384, RSA or Ed25519")


def _media_type(data: bytes) -> str:
    kind = codecs.kind_of(data)
    return f"image/{kind.lower()}" if kind else "application/octet-stream"


def _blank() -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8)).save(buffer, "PNG")
    return buffer.getvalue()
