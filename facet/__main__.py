"""The command `facet`, also as python -m facet."""

from __future__ import annotations

import sys


def main() -> int:
    """Run the command line; returns 0, or 1 where some work failed, or 2 for a mistake in usage or installation."""
    try:
        from facet import Client  # noqa: F401
    except ImportError as exc:
        print(f"facet: error: {exc}", file=sys.stderr)
        return 2
    from facet import cli

    return cli.main()


if __name__ == "__main__":
    sys.exit(main())
