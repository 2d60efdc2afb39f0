"""Signed manifests: what they say, that they are checked, and that credentials which cannot sign stop the start."""

from __future__ import annotations

import base64
import datetime
import io
import socket
import zipfile
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from service import __main__
from service.provenance import c2pa
from service.provenance.c2pa import Agent, C2paManifest, Credentials, CredentialsError
from service.provenance.marking import SourceType
from service.settings import Settings
from tests.service.fakes import ATTRIBUTES, TestClient, encoded, grey, pixels, problem, serving

pytest.importorskip("c2pa", reason="c2pa-python is not installed")
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

GENERATED, EDITED = SourceType.GENERATED, SourceType.EDITED
LATENT = {"latent": [5, 0, 0], "source_attributes": dict.fromkeys(ATTRIBUTES, -1)}
AGENT = Agent("Facet tiny", "1")
Key = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey


def certificate(subject: str, key: Key, issuer: str, signer: Key, authority: bool) -> bytes:
    """A certificate as C2PA asks for: of an authority, or of one that signs content."""

    def name(common: str) -> x509.Name:
        oid = x509.oid.NameOID
        return x509.Name(
            [x509.NameAttribute(oid.ORGANIZATION_NAME, "Tests"), x509.NameAttribute(oid.COMMON_NAME, common)]
        )

    now = datetime.datetime.now(datetime.UTC)
    usages = dict.fromkeys(
        [
            "content_commitment",
            "key_encipherment",
            "data_encipherment",
            "key_agreement",
            "encipher_only",
            "decipher_only",
        ],
        False,
    )
    usage = x509.KeyUsage(digital_signature=not authority, key_cert_sign=authority, crl_sign=authority, **usages)
    builder = (
        x509.CertificateBuilder()
        .subject_name(name(subject))
        .issuer_name(name(issuer))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=30))
        .add_extension(x509.BasicConstraints(authority, None), True)
        .add_extension(usage, True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), False)
    )
    if not authority:
        purpose = x509.ExtendedKeyUsage([x509.oid.ExtendedKeyUsageOID.EMAIL_PROTECTION])
        builder = builder.add_extension(purpose, False)
    signed = builder.sign(signer, None if isinstance(signer, ed25519.Ed25519PrivateKey) else hashes.SHA256())
    return signed.public_bytes(serialization.Encoding.PEM)


def write_files(directory: Path, key: Key) -> dict[str, str]:
    """A chain of two and the signer's key, as settings."""
    root = ec.generate_private_key(ec.SECP256R1())
    chain = certificate("signer", key, "root", root, False) + certificate("root", root, "root", root, True)
    directory.mkdir(exist_ok=True)
    (directory / "chain.pem").write_bytes(chain)
    form = serialization.PrivateFormat.PKCS8
    pem = key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption())
    (directory / "key.pem").write_bytes(pem)
    return {"c2pa_certificate": str(directory / "chain.pem"), "c2pa_private_key": str(directory / "key.pem")}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return write_files(tmp_path_factory.mktemp("credentials"), ec.generate_private_key(ec.SECP256R1()))


@pytest.fixture(scope="module")
def own(files: dict[str, str]) -> Credentials:
    return Credentials.of(Settings(**files))


@pytest.fixture
def signing(settings: Settings, files: dict[str, str]):
    with serving(settings.model_copy(update=files)) as client:
        yield client


def post(client: TestClient, path: str, accept: str = "image/png", **body: Any) -> bytes:
    response = client.post(path, json=body, headers={"Accept": accept})
    assert response.status_code == 200, response.text
    return response.content


def edited(client: TestClient, photo: bytes, accept: str = "image/png") -> bytes:
    data = {"attributes": '{"Smiling": 1}'}
    response = client.post("/v1/edit", files={"image": ("p", photo)}, data=data, headers={"Accept": accept})
    assert response.status_code == 200, response.text
    return response.content


def verify(client: TestClient, data: bytes) -> dict[str, Any]:
    response = client.post("/v1/verify", content=data)
    assert response.status_code == 200, response.text
    return response.json()


def stated(source_type: SourceType, ingredients: int = 0, state: str = "Trusted") -> C2paManifest:
    failures = [] if state == "Trusted" else ["signingCredential.untrusted"]
    return C2paManifest(state, "Tests", "Facet", [source_type], ingredients, failures)


@pytest.mark.parametrize("kind", ["png", "jpeg", "webp"])
def test_generated_pictures_are_signed(signing: TestClient, own: Credentials, kind: str):
    data = post(signing, "/v1/generate", f"image/{kind}")
    assert c2pa.read(data, own) == stated(GENERATED)
    assert c2pa.read(data) == stated(GENERATED, state="Valid")
    assert pixels(data).shape == (8, 8, 3)


@pytest.mark.parametrize("kind", ["webp", "gif"])
def test_films_are_signed(signing: TestClient, own: Credentials, kind: str):
    params = {"attribute": "Smiling", "layout": "animation", "steps": 3, "size": 32, **LATENT}
    data = post(signing, "/v1/sweep", f"image/{kind}", **params)
    assert c2pa.read(data, own) == stated(GENERATED)
    assert Image.open(io.BytesIO(data)).n_frames == 4


def test_each_frame_of_an_archive_is_signed(signing: TestClient, own: Credentials):
    params = {"attribute": "Smiling", "layout": "frames", "steps": 2, "size": 32, **LATENT}
    with zipfile.ZipFile(io.BytesIO(post(signing, "/v1/sweep", "*/*", **params))) as archive:
        assert [c2pa.read(archive.read(name), own) for name in archive.namelist()] == [stated(GENERATED)] * 2


def test_an_edit_names_the_photograph_it_was_made_from(signing: TestClient, own: Credentials):
    assert c2pa.read(edited(signing, grey(20)), own) == stated(EDITED, ingredients=1)


def test_an_edit_keeps_the_manifest_of_what_it_was_made_from(signing: TestClient, own: Credentials):
    photo = own.sign(grey(20), "image/png", GENERATED, Agent("Another model", "7"), None)
    data = edited(signing, photo, "image/jpeg")
    assert c2pa.read(data, own) == stated(EDITED, ingredients=1)
    assert b"Another model" in data
    assert b"Another model" not in edited(signing, grey(20), "image/jpeg")


def test_a_manifest_holds_no_copy_of_the_upload(signing: TestClient):
    noise = encoded(Image.effect_noise((178, 218), 99).convert("RGB"), "JPEG", quality=95)
    flat = edited(signing, grey(20), "image/jpeg")
    assert len(edited(signing, noise, "image/jpeg")) < len(noise) + len(flat)


def damaged(signed: bytes) -> bytes:
    """The JPEG with a manifest that cannot be read."""
    data = bytearray(signed)
    start = data.find(b"jumb")
    data[start + 30 : start + 80] = bytes(50)
    return bytes(data)


def test_an_edit_of_a_photograph_whose_manifest_is_damaged_is_signed_anew(signing: TestClient, own: Credentials):
    photo = encoded(Image.new("RGB", (178, 218)), "JPEG")
    photo = damaged(own.sign(photo, "image/jpeg", GENERATED, AGENT, None))
    assert c2pa.read(edited(signing, photo), own) == stated(EDITED)


def test_json_holds_signed_pictures(signing: TestClient, own: Credentials):
    body = signing.post("/v1/generate", json={"count": 2}, headers={"Accept": "application/json"}).json()
    for image in body["images"]:
        assert c2pa.read(base64.b64decode(image["data"]), own) == stated(GENERATED)


def test_verify_tells_what_a_manifest_says(signing: TestClient):
    body = verify(signing, post(signing, "/v1/generate"))
    assert body["c2pa"] == {
        "state": "Trusted",
        "issuer": "Tests",
        "generator": "Facet",
        "digital_source_types": [GENERATED],
        "ingredients": 0,
        "failures": [],
    }
    assert "c2pa" in body["checked"]
    assert (body["synthetic"], body["facet"]) == (True, True)


def test_verify_tells_a_foreign_signature_from_its_own(client: TestClient, own: Credentials):
    body = verify(client, own.sign(grey(20), "image/png", GENERATED, AGENT, None))
    assert body["c2pa"]["state"] == "Valid"
    assert (body["xmp"], body["synthetic"], body["facet"]) == (None, True, True)


def test_a_picture_that_was_changed_after_it_was_signed_is_invalid_and_counts_for_nothing(
    signing: TestClient, own: Credentials
):
    signed = own.sign(encoded(Image.new("RGB", (64, 64)), "JPEG"), "image/jpeg", GENERATED, AGENT, None)
    changed = bytearray(signed)
    changed[-20] ^= 1
    body = verify(signing, bytes(changed))
    assert body["c2pa"]["state"] == "Invalid"
    assert "assertion.dataHash.mismatch" in body["c2pa"]["failures"]
    assert (body["synthetic"], body["facet"]) == (None, False)


def test_a_manifest_that_cannot_be_read_is_said_to_be_there(signing: TestClient, own: Credentials):
    signed = own.sign(encoded(Image.new("RGB", (64, 64)), "JPEG"), "image/jpeg", GENERATED, AGENT, None)
    assert verify(signing, damaged(signed))["c2pa"]["failures"] == ["unreadable"]


@pytest.mark.parametrize(
    "key",
    [
        ec.generate_private_key(ec.SECP384R1()),
        rsa.generate_private_key(65537, 2048),
        ed25519.Ed25519PrivateKey.generate(),
    ],
    ids=["P-384", "RSA", "Ed25519"],
)
def test_keys_of_other_kinds_sign(tmp_path: Path, key: Key):
    other = Credentials.of(Settings(**write_files(tmp_path, key)))
    assert c2pa.read(other.sign(grey(1), "image/png", GENERATED, AGENT, None), other) == stated(GENERATED)


def test_nothing_is_signed_by_default(client: TestClient):
    assert client.app.state.service.credentials is None
    assert c2pa.read(post(client, "/v1/generate")) is None


def refused(**settings: str) -> CredentialsError:
    with pytest.raises(CredentialsError) as caught:
        Credentials.of(Settings(**settings))
    return caught.value


def test_one_file_without_the_other_is_refused(files: dict[str, str]):
    assert "FACET_C2PA_PRIVATE_KEY is not set" in str(refused(c2pa_certificate=files["c2pa_certificate"]))
    assert "FACET_C2PA_CERTIFICATE is not set" in str(refused(c2pa_private_key=files["c2pa_private_key"]))


@pytest.mark.parametrize(("setting", "rule"), [("c2pa_certificate", "does not sign"), ("c2pa_private_key", "in PEM")])
def test_a_file_that_is_something_else_is_named(files: dict[str, str], tmp_path: Path, setting: str, rule: str):
    wrong = tmp_path / "wrong.pem"
    wrong.write_text("hello")
    assert str(refused(**files | {setting: str(wrong)})).startswith(f"{wrong}: ")
    assert rule in str(refused(**files | {setting: str(wrong)}))
    assert "cannot be read" in str(refused(**files | {setting: str(tmp_path / "none.pem")}))


def test_a_key_of_another_certificate_is_refused(files: dict[str, str], tmp_path: Path):
    other = write_files(tmp_path, ec.generate_private_key(ec.SECP256R1()))["c2pa_private_key"]
    error = refused(**files | {"c2pa_private_key": other})
    assert str(error) == f"{other}: is not the key of the first certificate in {files['c2pa_certificate']}"


def test_a_key_of_a_curve_that_c2pa_does_not_know_is_refused(tmp_path: Path):
    settings = write_files(tmp_path, ec.generate_private_key(ec.SECP256K1()))
    assert "must be a key of" in str(refused(**settings))


def test_a_time_stamping_authority_that_does_not_answer_is_named(files: dict[str, str]):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}/"
        assert str(refused(**files, c2pa_timestamp_url=url)).startswith(f"{url}: does not sign")


def test_credentials_without_the_package_are_refused(files: dict[str, str], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(c2pa, "installed", lambda: False)
    assert "install the extra c2pa" in str(refused(**files))


def test_wrong_credentials_are_one_line_and_status_two(
    files: dict[str, str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setenv("FACET_C2PA_CERTIFICATE", files["c2pa_certificate"])
    assert __main__.main() == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert files["c2pa_certificate"] in line


def test_what_cannot_be_signed_does_not_leave(signing: TestClient, monkeypatch: pytest.MonkeyPatch):
    import c2pa

    def fail(*_: object) -> None:
        raise c2pa.C2paError("the authority is away")

    monkeypatch.setattr(signing.app.state.service.credentials, "_signed", fail)
    response = signing.post("/v1/generate", json={})
    assert "could not be signed" in problem(response, 503)["detail"]
    assert response.headers["retry-after"] == "5"
