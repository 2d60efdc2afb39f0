"""Links, headings and code of Markdown pages, as GitHub renders them."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

_FENCE = re.compile(r"^(```|~~~).*?^\1", flags=re.MULTILINE | re.DOTALL)
_CODE = re.compile(r"`[^`\n]+`")
_LINK = re.compile(r"\]\(([^)\s]+)\)")


def links(text: str) -> list[str]:
    """Targets of all links and images."""
    return _LINK.findall(_CODE.sub("", _FENCE.sub("", text)))


def fragments(text: str) -> set[str]:
    """The fragment of each heading: lower case, without punctuation, a number where a heading repeats."""
    seen: Counter[str] = Counter()
    found = set()
    for heading in re.findall(r"^#+ +(.*?) *$", _FENCE.sub("", text), flags=re.MULTILINE):
        title = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading)
        slug = re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")
        found.add(f"{slug}-{seen[slug]}" if seen[slug] else slug)
        seen[slug] += 1
    return found


def broken_links(page: Path) -> list[str]:
    """Relative links of a page to a file that does not exist, or to a fragment that its page does not have."""
    broken = []
    for target in links(page.read_text(encoding="utf-8")):
        if re.match(r"[a-z]+:", target):  # of another site
            continue
        name, _, fragment = target.partition("#")
        path = page.parent / name if name else page
        if not path.exists() or (fragment and fragment not in fragments(path.read_text(encoding="utf-8"))):
            broken.append(target)
    return broken
