"""Settings come from FACET_ variables, are checked, and are documented in one table."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from service import settings
from service.settings import Settings

PAGE = Path(__file__).parents[2] / "docs" / "settings.md"


@pytest.mark.parametrize("name", Settings.model_fields)
def test_every_setting_has_a_meaning(name: str):
    assert Settings.model_fields[name].description


@pytest.mark.parametrize(
    ("variable", "text", "name", "value"),
    [
        ("FACET_PORT", "9001", "port", 9001),
        ("FACET_BUNDLES", "/srv/bundles", "bundles", Path("/srv/bundles")),
        ("FACET_DEFAULT_MODEL", "mine", "default_model", "mine"),
        ("FACET_DEVICE", "cpu", "device", "cpu"),
        ("FACET_REQUEST_TIMEOUT", "2.5", "request_timeout", 2.5),
        (
            "FACET_TRACES_ENDPOINT",
            "http://collector:4318/v1/traces",
            "traces_endpoint",
            "http://collector:4318/v1/traces",
        ),
        (
            "FACET_CORS_ORIGINS",
            "https://a.example, http://b.example:8080",
            "cors_origins",
            {"https://a.example", "http://b.example:8080"},
        ),
        ("FACET_CORS_ORIGINS", "*", "cors_origins", {"*"}),
        ("facet_max_batch", "16", "max_batch", 16),
        ("FACET_CUDA_GRAPHS", "true", "cuda_graphs", True),
    ],
)
def test_the_environment_overrides_a_default(monkeypatch, variable: str, text: str, name: str, value: object):
    assert getattr(Settings(), name) != value
    monkeypatch.setenv(variable, text)
    assert getattr(Settings(), name) == value


def test_a_variable_without_the_prefix_is_not_ours(monkeypatch):
    monkeypatch.setenv("PORT", "9001")
    monkeypatch.setenv("MAX_BATCH", "3")
    assert Settings().port == Settings.model_fields["port"].default
    assert Settings().max_batch == Settings.model_fields["max_batch"].default


@pytest.mark.parametrize(
    ("variable", "text"),
    [
        ("FACET_PORT", "http"),
        ("FACET_PORT", "65536"),
        ("FACET_PORT", ""),
        ("FACET_DEVICE", "tpu"),
        ("FACET_MAX_BATCH", "-1"),
        ("FACET_MAX_BATCH", "4096"),
        ("FACET_QUEUE_IMAGES", "0"),
        ("FACET_WORKERS", "-1"),
        ("FACET_CUDA_GRAPHS", "maybe"),
        ("FACET_CODEC_THREADS", "0"),
        ("FACET_REQUEST_TIMEOUT", "0"),
        ("FACET_REQUEST_TIMEOUT", "nan"),
        ("FACET_MAX_BODY_BYTES", "10"),
        ("FACET_MAX_IMAGE_PIXELS", "0"),
        ("FACET_MAX_COUNT", "0"),
        ("FACET_LOG_LEVEL", "loud"),
        ("FACET_LOG_FORMAT", "xml"),
        ("FACET_TRACES_ENDPOINT", "collector:4318"),
        ("FACET_MAX_BODIES_BYTES", "0"),
        ("FACET_ADMIN_PORT", "-1"),
        ("FACET_MAX_CONNECTIONS", "0"),
        ("FACET_CORS_ORIGINS", "example.org"),
        ("FACET_CORS_ORIGINS", "https://example.org/"),
        ("FACET_CORS_ORIGINS", "https://*.example.org"),
    ],
)
def test_a_bad_value_is_refused_by_name(monkeypatch, variable: str, text: str):
    monkeypatch.setenv(variable, text)
    with pytest.raises(ValidationError) as caught:
        Settings()
    (error,) = caught.value.errors()
    assert settings.PREFIX + error["loc"][0].upper() == variable


def test_connections_need_descriptors(monkeypatch):
    monkeypatch.setattr("service.system.descriptor_limit", lambda: 100)
    assert Settings().max_connections == 75
    monkeypatch.setenv("FACET_MAX_CONNECTIONS", "100")
    with pytest.raises(ValidationError, match="less than the 100 descriptors"):
        Settings()
    monkeypatch.setattr("service.system.descriptor_limit", lambda: float("inf"))
    assert Settings().max_connections == 100
    monkeypatch.delenv("FACET_MAX_CONNECTIONS")
    assert Settings().max_connections == 4000


def test_settings_do_not_change_while_serving():
    with pytest.raises(ValidationError):
        Settings().port = 1


def test_there_are_threads_for_pictures_by_default():
    assert Settings().codec_threads >= 2


def test_the_table_has_every_setting_with_its_default_and_meaning():
    header, rule, *rows = settings.table().splitlines()
    assert header.count("|") == rule.count("|") == 4
    assert len(rows) == len(Settings.model_fields)
    for row, (name, field) in zip(rows, Settings.model_fields.items(), strict=True):
        assert row.startswith(f"| `FACET_{name.upper()}` |")
        assert row.endswith(f"| {field.description} |")
        assert row.count("|") == 4
        if not field.default_factory and str(field.default):
            assert f"| `{field.default}` |" in row


def test_the_table_does_not_depend_on_the_machine(monkeypatch):
    before = settings.table()
    monkeypatch.setattr("service.system.available_cores", lambda: 77)
    monkeypatch.setattr("service.system.descriptor_limit", lambda: 77)
    monkeypatch.setenv("FACET_PORT", "1")
    assert settings.table() == before


def test_the_page_of_settings_has_the_table():
    assert settings.table() in PAGE.read_text(encoding="utf-8")
