"""Results as text for a terminal."""

from __future__ import annotations

from facet.results import Encoding, Model


def encoding(name: str, found: Encoding) -> str:
    """A picture's faces side by side, an attribute in each row."""
    count = len(found.faces)
    lines = [f"{name}: {found.width} x {found.height} pixels, {count} face{'s'[: count != 1]}, {found.model}"]
    for number, face in enumerate(found.faces):
        left, top, right, bottom = (round(side) for side in face.box)
        lines.append(f"  face {number}: {right - left} x {bottom - top} pixels at ({left}, {top})")
    names = list(found.faces[0].attributes) if found.faces else []
    width = max((len(each) for each in names), default=0)
    lines.append("  " + " " * width + "".join(f"{f'face {number}':>9}" for number in range(count)))
    for each in names:
        lines.append(f"  {each:<{width}}" + "".join(f"{face.attributes[each]:>+9.2f}" for face in found.faces))
    return "\n".join(lines)


def model(told: Model) -> str:
    """A model and its attributes; those of a group exclude each other."""
    width = max((len(attribute.name) for attribute in told.attributes), default=0)
    head = f"{told.name}@{told.version}{' (default)' if told.default else ''}"
    lines = [
        f"{head}: {told.description}",
        f"  faces of {told.image_size} x {told.image_size} pixels, {told.latent_size} latent dimensions, "
        f"runs on {told.device}",
        f"  weights: {told.weights_licence}",
    ]
    for attribute in told.attributes:
        notes = [f"one of {attribute.group}"] if attribute.group else []
        notes += ["sensitive" if attribute.enabled else "sensitive, not enabled"] if attribute.sensitive else []
        notes += [f"{direction}: experimental" for direction in attribute.experimental]
        noted = f" ({', '.join(notes)})" if notes else ""
        lines.append(f"  {attribute.name:<{width}}  {attribute.description}{noted}")
    return "\n".join(lines)
