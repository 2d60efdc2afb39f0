"""Keys are made, kept as hashes, found, and revoked while the service runs."""

from __future__ import annotations

import base64
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from service.auth import keys
from service.auth.keys import Key, Keyring, KeysError
from service.telemetry.metrics import Metrics

ROOT = Path(__file__).parents[3]
HASH = "0" * 64


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "keys.json"


@pytest.fixture
def metrics() -> Metrics:
    return Metrics(CollectorRegistry())


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def ring(path: Path, metrics: Metrics) -> tuple[Keyring, Clock]:
    clock = Clock()
    return Keyring(path, metrics.key_reloads, clock), clock


def reloads(metrics: Metrics, result: str) -> float:
    return metrics.registry.get_sample_value("facet_key_reloads_total", {"result": result})


def test_a_token_is_256_random_bits_behind_a_prefix(path: Path):
    tokens = {keys.new(path, name=f"k{n}", scopes=["use"]) for n in range(20)}
    assert len(tokens) == 20
    for token in tokens:
        assert re.fullmatch(r"facet_[A-Za-z0-9_-]{43}", token)
        assert len(base64.urlsafe_b64decode(token.removeprefix("facet_") + "=")) == 32


def test_the_file_holds_no_token(path: Path):
    token = keys.new(path, name="studio", scopes=["use", "metrics"], images_per_second=2.5)
    assert token not in path.read_text()
    assert token.removeprefix("facet_") not in path.read_text()
    assert json.loads(path.read_text()) == {
        "keys": [
            {
                "images_per_second": 2.5,
                "name": "studio",
                "sha256": keys.digest(token),
                "scopes": ["metrics", "use"],
            }
        ]
    }


def test_a_token_is_found_and_another_is_not(path: Path, metrics: Metrics):
    tokens = {name: keys.new(path, name=name, scopes=["use"]) for name in ("a", "b", "c")}
    found, _ = ring(path, metrics)
    for name, token in tokens.items():
        assert found.find(token).name == name
        for other in (token[:-1], token + "A", token.upper(), keys.digest(token), f" {token}", ""):
            assert found.find(other) is None


def test_every_key_is_compared_in_constant_time(path: Path, metrics: Metrics, monkeypatch):
    tokens = [keys.new(path, name=name, scopes=["use"]) for name in "abc"]
    found, _ = ring(path, metrics)
    compared = []
    real = keys.hmac.compare_digest
    monkeypatch.setattr(keys.hmac, "compare_digest", lambda *pair: compared.append(pair) or real(*pair))
    for token in (*tokens, "facet_wrong"):
        compared.clear()
        found.find(token)
        assert len(compared) == 3  # whichever it is, and whether it is one or not


def test_a_key_is_revoked_while_the_service_runs(path: Path, metrics: Metrics):
    kept, lost = (keys.new(path, name=name, scopes=["use"]) for name in ("kept", "lost"))
    found, clock = ring(path, metrics)
    keys.revoke(path, "lost")
    clock.now = 0.9
    assert found.find(lost) is not None  # nobody has looked
    clock.now = 1.0
    assert found.find(lost) is None
    assert found.find(kept).name == "kept"
    added = keys.new(path, name="added", scopes=["use"])
    clock.now = 2.0
    assert found.find(added).name == "added"
    assert reloads(metrics, "ok") == 2


@pytest.mark.parametrize("broken", ["{", '{"keys": [{"name": "x"}]}', None])
def test_while_the_file_is_broken_the_last_good_keys_stay(path: Path, metrics: Metrics, caplog, broken: str | None):
    token = keys.new(path, name="a", scopes=["use"])
    found, clock = ring(path, metrics)
    path.write_text(broken) if broken else path.unlink()
    for _ in range(3):
        clock.now += 1
        assert found.find(token).name == "a"
    assert reloads(metrics, "failed") == 1
    assert [record.levelname for record in caplog.records] == ["ERROR"]
    assert str(path) in caplog.text
    path.unlink(missing_ok=True)
    fresh = keys.new(path, name="b", scopes=["use"])
    clock.now += 1
    assert found.find(token) is None
    assert found.find(fresh).name == "b"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "JSON"),
        ("[]", "the file: "),
        ('{"keys": [], "more": 1}', "more"),
        (json.dumps({"keys": [{"name": "a b", "sha256": HASH, "scopes": ["use"]}]}), "keys.0.name"),
        (json.dumps({"keys": [{"name": "a", "sha256": "facet_secret", "scopes": ["use"]}]}), "keys.0.sha256"),
        (json.dumps({"keys": [{"name": "a", "sha256": HASH, "scopes": []}]}), "keys.0.scopes"),
        (json.dumps({"keys": [{"name": "a", "sha256": HASH, "scopes": ["root"]}]}), "keys.0.scopes"),
        (json.dumps({"keys": [{"name": "a", "sha256": HASH, "scopes": ["use"], "burst": 0}]}), "keys.0.burst"),
        (json.dumps({"keys": [{"name": "a", "sha256": HASH, "scopes": ["use"]}] * 2}), "the name a stands twice"),
        (
            json.dumps({"keys": [{"name": name, "sha256": HASH, "scopes": ["use"]} for name in "ab"]}),
            "stands twice",
        ),
    ],
)
def test_a_broken_file_is_refused_by_place_and_rule(path: Path, metrics: Metrics, text: str, words: str):
    path.write_text(text)
    with pytest.raises(KeysError) as caught:
        ring(path, metrics)
    assert str(caught.value).startswith(f"{path}: ")
    assert words in str(caught.value)
    assert "facet_secret" not in str(caught.value)  # whoever confuses a token with its hash must not read it in a log


def test_a_missing_file_is_refused(path: Path, metrics: Metrics):
    with pytest.raises(KeysError, match=r"keys\.json: cannot be read"):
        ring(path, metrics)


def test_a_failed_write_leaves_the_file_and_no_rubbish(path: Path, monkeypatch):
    keys.new(path, name="a", scopes=["use"])
    before = path.read_text()

    def fail(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(keys.os, "replace", fail)
    with pytest.raises(OSError, match="disk full"):
        keys.new(path, name="b", scopes=["use"])
    assert path.read_text() == before
    assert [each.name for each in path.parent.iterdir()] == ["keys.json"]


def test_the_file_keeps_its_mode(path: Path):
    keys.new(path, name="a", scopes=["use"])
    assert path.stat().st_mode & 0o777 == 0o644
    path.chmod(0o640)
    keys.new(path, name="b", scopes=["use"])
    assert path.stat().st_mode & 0o777 == 0o640


# ---- the command


def run(*words: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "service.keys", *words],
        cwd=ROOT, env={**os.environ, **variables}, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


def test_the_command_makes_lists_and_revokes(path: Path, metrics: Metrics):
    made = run("new", "--name", "shop", "--scopes", "use,metrics", "--images-in-flight", "8", FACET_KEYS_FILE=str(path))
    assert (made.returncode, made.stderr) == (0, "")
    (token,) = made.stdout.split()
    found = ring(path, metrics)[0].find(token)
    assert found == Key(name="shop", sha256=keys.digest(token), scopes={"use", "metrics"}, images_in_flight=8)
    assert keys.main(["revoke", "--name", "shop", "--file", str(path)]) == 0
    assert keys.read(path).keys == []


def test_the_list_shows_no_hash(path: Path, capsys):
    token = keys.new(path, name="shop", scopes=["use"], images_per_second=2, burst=5)
    assert keys.main(["list", "--file", str(path)]) == 0
    assert capsys.readouterr().out == "shop  use  images_per_second=2  burst=5\n"
    assert keys.digest(token) in path.read_text()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["new", "--name", "a b", "--scopes", "use"], "name='a b'"),
        (["new", "--name", "a", "--scopes", "root"], "scopes='root'"),
        (["new", "--name", "taken", "--scopes", "use"], "has a key taken already"),
        (["new", "--name", "a", "--scopes", "use", "--burst", "0"], "burst=0"),
        (["revoke", "--name", "a"], "has no key a; it has taken"),
    ],
)
def test_a_mistake_is_one_line_and_changes_nothing(path: Path, capsys, words: list[str], said: str):
    keys.new(path, name="taken", scopes=["use"])
    before = path.read_text()
    assert keys.main([*words, "--file", str(path)]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("error: ")
    assert len(err.splitlines()) == 1
    assert said in err
    assert path.read_text() == before


def test_without_a_file_the_command_says_so(monkeypatch, capsys):
    monkeypatch.delenv("FACET_KEYS_FILE", raising=False)
    with pytest.raises(SystemExit) as caught:
        keys.main(["list"])
    assert caught.value.code == 2
    assert "FACET_KEYS_FILE" in capsys.readouterr().err
