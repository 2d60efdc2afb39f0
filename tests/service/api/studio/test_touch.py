"""Fingers on the photo: pinch, drag, double tap."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.service.api.studio.page import Page

pytestmark = pytest.mark.slow  # a browser, and a service in a process of its own


class Fingers:
    """Touches of the stage, at points relative to its middle, at times that do not depend on how fast all this runs."""

    def __init__(self, page: Page) -> None:
        self._page = page
        self._session = page.page.context.new_cdp_session(page.page)
        self._now = time.time()
        box = page["#stage"].bounding_box()
        self._middle = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2

    def touch(self, kind: str, *points: tuple[float, float], after: float = 0.02) -> None:
        self._now += after
        (x, y), touches = self._middle, []
        for finger, (dx, dy) in enumerate(points):
            touches.append({"x": x + dx, "y": y + dy, "id": finger})
        event = {"type": kind, "touchPoints": touches, "timestamp": self._now}
        self._session.send("Input.dispatchTouchEvent", event)

    def pinch(self, middle: tuple[float, float], start: tuple[float, float], factor: float) -> None:
        """Two fingers at both sides of `middle`, at first at a distance of `start`, at last `factor` times as far."""

        def points(times: float) -> list[tuple[float, float]]:
            return [(middle[0] + sign * times * start[0], middle[1] + sign * times * start[1]) for sign in (-1, 1)]

        self.touch("touchStart", points(1)[0], after=2)
        self.touch("touchStart", *points(1))
        for step in range(1, 11):
            self.touch("touchMove", *points(1 + (factor - 1) * step / 10))
        self.touch("touchEnd")

    def drag(self, start: tuple[float, float], way: tuple[float, float]) -> None:
        self.touch("touchStart", start, after=2)
        for step in range(1, 11):
            self.touch("touchMove", (start[0] + way[0] * step / 10, start[1] + way[1] * step / 10))
        self.touch("touchEnd")

    def tap_twice(self, x: float, y: float, between: float = 0.1) -> None:
        self.touch("touchStart", (x, y), after=2)
        self.touch("touchEnd")
        self.touch("touchStart", (x, y), after=between)
        self.touch("touchEnd")

    def place(self) -> tuple[float, float, float]:
        """Where the photo is on the stage: left, top, width in pixels."""
        names = "['--x', '--y', '--w']"
        read = f"(stage) => {names}.map((name) => parseFloat(stage.style.getPropertyValue(name)))"
        return tuple(self._page["#stage"].evaluate(read))


@pytest.fixture
def phone(browser, server: str) -> Iterator[Page]:
    context = browser.new_context(viewport={"width": 390, "height": 844}, is_mobile=True, has_touch=True)
    page = Page(context.new_page(), server)
    yield page
    context.close()
    assert (page.complaints, page.foreign) == ([], [])


@pytest.mark.parametrize(
    ("middle", "start"),
    [((80, 0), (40, 0)), ((80, 0), (25, 25)), ((80, 0), (0, 40)), ((40, 0), (40, 0))],
    ids=["across", "slanting", "up and down", "with a finger on the divider"],
)
def test_two_fingers_pinch_in_every_direction(phone: Page, small: Path, middle, start):
    phone.open(small)
    phone["#zoom-all"].click()
    fingers = Fingers(phone)
    _, _, whole = fingers.place()
    share = phone["#divider"].input_value()
    fingers.pinch(middle, start, 2.5)
    assert fingers.place()[2] == pytest.approx(2.5 * whole, rel=0.1)
    assert abs(float(phone["#divider"].input_value()) - float(share)) < 10
    fingers.pinch((80, 0), (60, 0), 0.3)
    assert fingers.place()[2] == pytest.approx(whole)


def test_a_finger_drags_what_is_zoomed_and_two_taps_zoom(phone: Page, small: Path):
    phone.open(small)
    phone["#zoom-all"].click()
    fingers = Fingers(phone)
    whole = fingers.place()
    fingers.drag((80, 0), (-60, 0))
    assert fingers.place() == whole  # there is nothing to drag to
    fingers.tap_twice(60, 20, between=1.0)
    assert fingers.place() == whole
    fingers.tap_twice(60, 20)
    left, top, width = fingers.place()
    assert width == pytest.approx(2.5 * whole[2])
    fingers.drag((80, 0), (-60, 30))
    moved = fingers.place()
    assert moved[2] == width
    assert moved[0] == pytest.approx(left - 60, abs=10)
    assert moved[1] == pytest.approx(top + 30, abs=10)
    fingers.tap_twice(60, 20)
    assert fingers.place() == whole
    fingers.tap_twice(0, 20)  # on the divider
    assert fingers.place()[2] > whole[2]
