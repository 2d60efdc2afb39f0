"""Who may do what: a request's key against the keys of the service."""

from __future__ import annotations

import hmac
from pathlib import Path
from typing import TYPE_CHECKING

from fastapi import Request

from service.keys import Key, Keyring, Scope, digest
from service.limits import Allowance
from service.metrics import Metrics
from service.problems import Problem
from service.settings import Settings

if TYPE_CHECKING:
    from service.calls import Call

_SWITCHED_OFF = "administration over HTTP is switched off (FACET_KEYS_FILE and FACET_ADMIN_TOKEN are not set)"
_HEADER = "the header Authorization must be 'Bearer' and a key"


class Access:
    """Without a file of keys everybody may use the service and read its metrics, and whoever has the admin token
    administrate it. With one, each of these takes a key with that scope; the admin token remains one.

    Raises KeysError where there is a file that cannot be used.
    """

    def __init__(self, settings: Settings, metrics: Metrics) -> None:
        self._keys = Keyring(Path(settings.keys_file), metrics.key_reloads) if settings.keys_file else None
        token = settings.admin_token.get_secret_value()
        self._admin_digest = digest(token) if token else None
        self._rejected = metrics.rejected
        self._allowances: dict[str, Allowance] = {}

    @property
    def is_open(self) -> bool:
        """Whether no key is asked for, but for administration."""
        return self._keys is None

    @property
    def is_administrable(self) -> bool:
        """Whether some key may administrate it over HTTP."""
        return self._keys is not None or self._admin_digest is not None

    def check(self, request: Request, call: Call, scope: Scope) -> Key | None:
        """The key that a request comes with, None where none is needed. Raises Problem 401 or 403."""
        if self._keys is None and scope != "admin":
            return None
        if not self.is_administrable:
            raise Problem(403, _SWITCHED_OFF)
        kind, _, token = request.headers.get("authorization", "").partition(" ")
        if kind.lower() != "bearer" or not token.strip():
            raise self._refusal(401, "unauthorized", _HEADER, "Bearer")
        key = self._find(token.strip())
        if key is None:
            raise self._refusal(401, "unauthorized", "no such key", 'Bearer error="invalid_token"')
        if scope not in key.scopes:
            rule = f"the key {key.name} lacks the scope {scope!r}"
            raise self._refusal(403, "forbidden", rule, f'Bearer error="insufficient_scope", scope="{scope}"')
        call.key = key.name
        return key

    def admit(self, request: Request, call: Call) -> None:
        """Let a request do work, within its key's limits: until it is over, it holds the images that it has.

        The first of them from now on, before its body is read. Raises a Problem: 401, 403, 413 or 429.
        """
        key = self.check(request, call, "use")
        if key is None:
            return
        allowance = self._allowances.get(key.name)
        if allowance is None:
            allowance = self._allowances[key.name] = Allowance(key, self._rejected)
        allowance.change(key)
        hold = allowance.hold()
        hold.raise_to(1)
        call.hold = hold
        call.resources.callback(lambda: hold.close(call.delivered))

    def _find(self, token: str) -> Key | None:
        if self._admin_digest and hmac.compare_digest(digest(token), self._admin_digest):
            return Key(name="admin-token", sha256=self._admin_digest, scopes={"admin"})
        return self._keys.find(token) if self._keys else None

    def _refusal(self, status: int, reason: str, rule: str, challenge: str) -> Problem:
        self._rejected.labels(reason).inc()
        error = {"field": "Authorization", "rule": rule}  # never the value
        return Problem(status, rule, [error], headers={"WWW-Authenticate": challenge})
