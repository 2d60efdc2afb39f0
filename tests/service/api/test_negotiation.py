"""`Accept` decides which representation a client gets."""

from __future__ import annotations

import pytest

from service.api import negotiation
from service.errors import Problem


@pytest.mark.parametrize(
    ("accept", "chosen"),
    [
        ("image/png", "png"),
        ("image/jpeg", "jpeg"),
        ("image/webp", "webp"),
        ("application/json", "json"),
        ("IMAGE/JPEG", "jpeg"),
        ("image/jpg", "jpeg"),
        ("image/pjpeg;q=0.5, image/png;q=0.4", "jpeg"),
        ("image/x-png", "png"),
        ("", "png"),
        ("*/*", "png"),
        ("image/*", "png"),
        ("application/*", "json"),
        ("image/webp, image/jpeg", "jpeg"),
        ("image/webp, image/jpeg;q=0.9", "webp"),
        ("image/png;q=0.2, application/json;q=0.8", "json"),
        ("text/html, application/json", "json"),
        ("text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8", "webp"),
        ("image/*, image/png;q=0", "jpeg"),
        ("*/*;q=0.1, application/json", "json"),
        ("image/*;q=0.5, image/png;q=0.1, */*;q=0.9", "json"),
        (" image/jpeg ; q=0.5 , ", "jpeg"),
        ("application/json; charset=utf-8", "json"),
    ],
)
def test_the_best_representation_is_chosen(accept: str, chosen: str):
    assert negotiation.choose(accept)[0] == chosen


@pytest.mark.parametrize(
    ("accept", "chosen"),
    [
        ("", ("png", "jpeg", "webp", "json")),
        ("image/*, image/png;q=0.9", ("jpeg", "webp")),
        ("image/webp;q=0.5, image/jpeg;q=0.5, image/png;q=0.4", ("jpeg", "webp")),
        ("application/json, image/*;q=0.9", ("json",)),
    ],
)
def test_all_that_are_as_good_are_chosen_in_the_servers_order(accept: str, chosen: tuple[str, ...]):
    assert negotiation.choose(accept) == chosen


@pytest.mark.parametrize(
    "accept", ["text/html", "image/tiff", "image/png;q=0", "*/*;q=0", "image/png;q=nonsense", "image/png;q=nan", "png"]
)
def test_an_accept_that_allows_nothing_is_406_and_says_what_is_offered(accept: str):
    with pytest.raises(Problem) as caught:
        negotiation.choose(accept)
    assert caught.value.status == 406
    (error,) = caught.value.errors
    assert error["field"] == "Accept"
    assert error["value"] == accept
    for name in negotiation.PICTURE:
        assert negotiation.MEDIA_TYPES[name] in error["rule"]


def test_a_huge_accept_is_not_repeated_whole():
    with pytest.raises(Problem) as caught:
        negotiation.choose("text/" + "x" * 5000)
    assert len(caught.value.detail) < 500
