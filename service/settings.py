"""What an operator can set: one table of names, defaults and meanings, read from `FACET_...` variables."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, SecretStr, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from service import system

PREFIX = "FACET_"
_PIXELS_PER_THREAD = 16_000_000
REMOTE = "v2:"  # in front of the URL of a server that runs the graphs
_SWITCH = {"": False, "0": False, "false": False, "no": False, "1": True, "true": True, "yes": True, "all": True}


def _names(value: Any) -> Any:
    """Names with commas between them; what is no text passes."""
    return frozenset(filter(None, map(str.strip, value.split(",")))) if isinstance(value, str) else value


def _all_or_some(value: Any) -> Any:
    return _SWITCH.get(value.strip().lower(), _names(value)) if isinstance(value, str) else value


Origin = Annotated[str, Field(pattern=r"^(\*|https?://[^/\s,*]+)$")]
Origins = Annotated[frozenset[Origin], NoDecode, BeforeValidator(_names)]
Switch = Annotated[bool | frozenset[str], NoDecode, BeforeValidator(_all_or_some)]


class Settings(BaseSettings):
    """Raises pydantic.ValidationError, naming the variable, for a value outside its range."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, extra="ignore", frozen=True)

    host: str = Field(default="127.0.0.1", description="address to listen on")
    port: int = Field(default=8000, ge=0, le=65535, description="port to listen on")
    uds: str = Field(default="", description="Unix socket to listen on instead of address and port; empty: none")
    uds_mode: str = Field(
        default="660", pattern=r"^[0-7]{3}$", description="permissions of that socket's file, in octal digits"
    )
    bundles: Path = Field(default=Path("bundles"), description="directory that holds one directory per bundle")
    weights: Path = Field(default=Path("weights"), description="directory of the face finder's weights")
    default_model: str = Field(default="celeba128", description="bundle that answers requests that name no model")
    runtime: str = Field(
        default="onnx",
        pattern=r"^(onnx|v2:https?://[^\s/?#]+(/[^\s?#]*)?)$",
        description="where graphs run: `onnx`, here; `v2:http://HOST:PORT`, on a server of the Open Inference Protocol",
    )
    device: Literal["auto", "cpu", "cuda"] = Field(
        default="auto", description="where graphs run; `cuda` requires a GPU, `auto` falls back to the CPU"
    )
    max_batch: int = Field(
        default=0,
        ge=0,
        le=1024,
        description="images in the largest batch; 0: 16 of up to 64 x 64 pixels on a CPU, 8 of 128 x 128, 64 elsewhere",
    )
    queue_images: int = Field(
        default=512,
        ge=1,
        description="images that may wait for each graph; beyond that, 429",
    )
    workers: int = Field(
        default=0,
        ge=0,
        description="batches that run at once, for all graphs together on a CPU, for each graph elsewhere; "
        "0: one per core, one on CUDA; a batch that runs alone on a CPU has as many threads, at most 4",
    )
    gpu_memory_bytes: int = Field(
        default=0, ge=0, description="most memory that each graph may take on a CUDA device; 0: no limit"
    )
    cuda_graphs: bool = Field(
        default=False, description="whether batches on a CUDA device are captured once for each size and then replayed"
    )
    codec_threads: int = Field(
        default_factory=lambda: max(2, system.available_cores()),
        ge=1,
        description="threads that decode and encode pictures; default: one per core, at least 2",
    )
    request_timeout: float = Field(
        default=30.0, gt=0, description="seconds until a request gets 504; `X-Request-Timeout` may ask for less"
    )
    client_timeout: float = Field(
        default=15.0,
        gt=0,
        description="seconds within which a client must send the head of a request, and continue to read a response",
    )
    keep_alive: float = Field(
        default=5.0, gt=0, description="seconds that an idle connection stays open; more than in a proxy in front"
    )
    max_connections: int = Field(
        # More than one model's queues hold, so that whoever asks too much gets 429 rather than this, where there are
        # descriptors enough. Forms above 1 MB take some too.
        default_factory=lambda: max(1, int(min(4000, system.descriptor_limit() * 0.75))),
        ge=1,
        description="connections to each port that are open at once; beyond that, 503; "
        "default: 4000, or three quarters of the process's descriptors if that is less",
    )
    watch_seconds: float = Field(
        default=0.0, ge=0, description="seconds between checks for new and changed bundles, to load them; 0: never"
    )
    admin_token: SecretStr = Field(
        default=SecretStr(""), description="bearer token for reloading models over HTTP; empty: no token"
    )
    admin_port: int = Field(
        default=0,
        ge=0,
        le=65535,
        description="port for metrics and reloading, which the main port then lacks; 0: all on one port",
    )
    admin_host: str = Field(default="127.0.0.1", description="address that the administration port listens on")
    keys_file: str = Field(
        default="", description="file of API keys, written by `python -m service.keys`; empty: no key is required"
    )
    cors_origins: Origins = Field(
        default_factory=frozenset,
        description="origins that browsers may call from, separated by commas, or `*`; empty: none",
    )
    latent_cache_bytes: int = Field(
        default=16_000_000,
        ge=0,
        description="bytes of the latent cache; 0: no cache",
    )
    photo_store_bytes: int = Field(
        default=100_000_000,
        ge=0,
        description="bytes of photographs in memory that requests may name (`POST /v1/photos`); 0: none is kept",
    )
    photo_store_decoded_bytes: int = Field(
        default=64_000_000,
        ge=0,
        description="bytes for those of these photographs that were edited last, decoded, so that a slider's next step "
        "costs the edit alone; 0: none stays decoded",
    )
    photo_store_seconds: float = Field(
        default=900.0, gt=0, description="seconds after its last use until a photograph is no longer kept"
    )
    max_body_bytes: int = Field(default=50_000_000, ge=1024, description="largest request body; larger ones get 413")
    max_bodies_bytes: int = Field(
        default=200_000_000, ge=1024, description="total bytes of request bodies in memory; beyond that, 429"
    )
    max_image_pixels: int = Field(default=2**26, ge=1, description="largest uploaded picture; larger ones get 413")
    max_decoded_pixels: int = Field(
        default=0,
        ge=0,
        description="pixels of pictures above 4 million that are decoded at once, others wait; "
        "0: 16 million for each codec thread, at least the largest picture",
    )
    max_count: int = Field(default=64, ge=1, description="faces that one request may generate")
    sensitive_attributes: Switch = Field(
        default=False,
        description="sensitive attributes that requests may name and responses contain: `true` for all, or names "
        "separated by commas",
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(default="info", description="verbosity of the log")
    log_format: Literal["json", "text"] = Field(
        default_factory=lambda: "text" if sys.stderr and sys.stderr.isatty() else "json",
        description="`json`, an object a line, or `text`; default: `text` on a terminal, `json` elsewhere",
    )
    traces_endpoint: str = Field(
        default="",
        pattern=r"^(https?://\S+)?$",
        description="URL that OpenTelemetry traces go to, by OTLP over HTTP; empty: as the `OTEL_` variables say",
    )
    watermark: bool = Field(
        default=True, description="whether generated pictures get an invisible watermark, from 256 pixels on"
    )
    c2pa_certificate: str = Field(
        default="",
        description="PEM file of the certificate chain that signs pictures (C2PA), the signer's first; empty: unsigned",
    )
    c2pa_private_key: str = Field(default="", description="PEM file of that certificate's private key")
    c2pa_timestamp_url: str = Field(
        default="", description="URL of the time-stamping authority (RFC 3161) for each signature; empty: none"
    )

    @property
    def decoded_pixels(self) -> int:
        """Pixels of large pictures that are decoded at once."""
        usual = max(self.max_image_pixels, _PIXELS_PER_THREAD * self.codec_threads)
        return self.max_decoded_pixels or usual

    @field_validator("max_connections")
    @classmethod
    def _has_descriptors(cls, value: int) -> int:
        if value >= (limit := system.descriptor_limit()):
            raise ValueError(f"must be less than the {limit:g} descriptors that this process may have (ulimit -n)")
        return value

    @field_validator("admin_port")
    @classmethod
    def _differs(cls, value: int, info: ValidationInfo) -> int:
        if value and value == info.data.get("port"):
            raise ValueError("must not be FACET_PORT as well")
        return value


def table() -> str:
    """The settings as a Markdown table, in the order of the class."""
    rows = ["| variable | default | meaning |", "|---|---|---|"]
    for name, field in Settings.model_fields.items():
        text = "" if field.default_factory else str(field.default)
        default = f"`{text}`" if text else ""
        rows.append(f"| `{PREFIX}{name.upper()}` | {default} | {field.description} |")
    return "\n".join(rows)
