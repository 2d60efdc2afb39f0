"""python -m service.healthcheck: whether the service with the settings of this environment answers `/healthz`.

For containers and supervisors. It imports the standard library only, so it starts in milliseconds, also as a script.
"""

from __future__ import annotations

import http.client
import os
import socket
import sys

_SECONDS = 4.0


class UnixConnection(http.client.HTTPConnection):
    """HTTP through the Unix socket at `path`."""

    def __init__(self, path: str, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


def main() -> int:
    """0 if it is healthy, else 1 with the reason on stderr. The administration port comes first, as it has room."""
    admin_port, path = int(os.environ.get("FACET_ADMIN_PORT") or 0), os.environ.get("FACET_UDS")
    if path and not admin_port:
        connection: http.client.HTTPConnection = UnixConnection(path, _SECONDS)
    else:
        port = admin_port or int(os.environ.get("FACET_PORT") or 8000)
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=_SECONDS)
    try:
        connection.request("GET", "/healthz")
        status = connection.getresponse().status
    except (OSError, http.client.HTTPException) as exc:
        print(f"error: {exc or type(exc).__name__}", file=sys.stderr)
        return 1
    finally:
        connection.close()
    if status != 200:
        print(f"error: /healthz returned {status}", file=sys.stderr)
    return 0 if status == 200 else 1


if __name__ == "__main__":
    sys.exit(main())
