"""What a PromQL expression asks for: enough of the language for the rules and the dashboard."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

_SELECTOR = re.compile(r"([a-zA-Z_:][\w:]*)\s*(?:\{([^}]*)\})?")
_MATCHER = re.compile(r"(\w+)\s*(=~|!~|!=|=)\s*\"((?:\\.|[^\"\\])*)\"")
_GROUPING = re.compile(r"\b(?:by|without|on|ignoring|group_left|group_right)\s*\(([^)]*)\)")


@dataclass(frozen=True)
class Selector:
    """One time series that an expression selects, and its matchers as (label, operator, value)."""

    name: str
    matchers: tuple[tuple[str, str, str], ...]


def selectors(expression: str) -> Iterator[Selector]:
    """The series of this service, and those recorded from them."""
    for found in _SELECTOR.finditer(expression):
        if found[1].startswith("facet"):
            yield Selector(found[1], tuple(match.groups() for match in _MATCHER.finditer(found[2] or "")))


def groupings(expression: str) -> set[str]:
    """The labels that an expression aggregates or joins by."""
    return {label.strip() for found in _GROUPING.finditer(expression) for label in found[1].split(",")} - {""}


def alternatives(operator: str, value: str) -> list[str]:
    """The values that a matcher spells out; none where it is a pattern beyond alternatives."""
    if operator in ("=", "!="):
        return [value]
    prefix, _, rest = value.partition("(")
    inner, _, suffix = rest.partition(")")
    words = [prefix + word + suffix for word in inner.split("|")] if rest else value.split("|")
    return [word for word in words if re.fullmatch(r"[\w/:{}]+", word)]
