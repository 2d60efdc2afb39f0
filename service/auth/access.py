"""Authorisation: a request's key against the keys of the service, and its scope and limits."""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from pathlib import Path

from service.auth.keys import Key, Keyring, Scope, digest
from service.auth.rate_limits import TokenBucket
from service.errors import Problem
from service.request import RequestContext
from service.settings import Settings
from service.telemetry.metrics import Metrics

_SWITCHED_OFF = "administration over HTTP is switched off (FACET_KEYS_FILE and FACET_ADMIN_TOKEN are not set)"
_HEADER = "the header Authorization must be 'Bearer' and a key, or X-API-Key the key alone"
KEY_HEADER = "X-API-Key"


class Access:
    """Checks keys. Headers are mappings whose look-up ignores case.

    Without a file of keys anybody may use the service and read its metrics, and the admin token allows administration.
    With one, each of these needs a key with that scope; the admin token still allows administration.

    Raises KeysError for a file that cannot be used.
    """

    def __init__(self, settings: Settings, metrics: Metrics) -> None:
        self._keys = Keyring(Path(settings.keys_file), metrics.key_reloads) if settings.keys_file else None
        token = settings.admin_token.get_secret_value()
        self._admin_digest = digest(token) if token else None
        self._rejected = metrics.rejected
        self._buckets: dict[str, TokenBucket] = {}

    @property
    def is_open(self) -> bool:
        """Whether only administration needs a key."""
        return self._keys is None

    @property
    def is_administrable(self) -> bool:
        """Whether some key allows administration over HTTP."""
        return self._keys is not None or self._admin_digest is not None

    def check(self, headers: Mapping[str, str], context: RequestContext, scope: Scope) -> Key | None:
        """The key of a request with those headers, None where none is needed. Raises a Problem: 401 or 403."""
        if self._keys is None and scope != "admin":
            return None
        if not self.is_administrable:
            raise Problem(403, _SWITCHED_OFF)
        token = _token(headers)
        if not token:
            raise self._refusal(401, "unauthorized", _HEADER, "Bearer")
        key = self._find(token)
        if key is None:
            raise self._refusal(401, "unauthorized", "no such key", 'Bearer error="invalid_token"')
        if scope not in key.scopes:
            rule = f"the key {key.name} lacks the scope {scope!r}"
            raise self._refusal(403, "forbidden", rule, f'Bearer error="insufficient_scope", scope="{scope}"')
        context.key = key.name
        return key

    def admit(self, headers: Mapping[str, str], context: RequestContext) -> None:
        """Charge a request that may do work to its key: one image now, before its body is read, more as it has more.

        Raises a Problem: 401, 403, 413 or 429.
        """
        key = self.check(headers, context, "use")
        if key is None:
            return
        bucket = self._buckets.get(key.name)
        if bucket is None:
            bucket = self._buckets[key.name] = TokenBucket(key, self._rejected)
        bucket.change(key)
        reservation = bucket.reservation()
        reservation.raise_to(1)
        context.limit_by(reservation)

    def _find(self, token: str) -> Key | None:
        if self._admin_digest and hmac.compare_digest(digest(token), self._admin_digest):
            return Key(name="admin-token", sha256=self._admin_digest, scopes={"admin"})
        return self._keys.find(token) if self._keys else None

    def _refusal(self, status: int, reason: str, rule: str, challenge: str) -> Problem:
        self._rejected.labels(reason).inc()
        error = {"field": "Authorization", "rule": rule}  # never the value
        return Problem(status, rule, [error], headers={"WWW-Authenticate": challenge})


def _token(headers: Mapping[str, str]) -> str:
    """The key in a request's headers, empty without one.

    A scheme other than Bearer may be a proxy's.
    """
    kind, _, token = headers.get("authorization", "").partition(" ")
    return (token if kind.lower() == "bearer" else headers.get(KEY_HEADER, "")).strip()
