"""What is tried again, how often, and after which pause."""

from __future__ import annotations

import asyncio

import httpx
import pytest

from facet import AsyncClient, ConnectError, RateLimited, RequestError, Retries, TransportError, Unavailable
from tests.facet.conftest import remote


def models() -> httpx.Response:
    return httpx.Response(200, json={"models": []})


def answering(*answers: httpx.Response | Exception):
    """Gives one answer after the other; returns that function and the list of those left."""
    left = list(answers)

    def answer(_):
        given = left.pop(0)
        if isinstance(given, Exception):
            raise given
        return given

    return answer, left


def full(seconds: str) -> httpx.Response:
    return httpx.Response(429, headers={"Retry-After": seconds})


def test_a_full_queue_is_tried_again_when_the_service_says(pauses):
    answer, left = answering(full("3"), full("0"), httpx.Response(503, headers={"Retry-After": "1"}), models())
    with remote(answer) as client:
        assert client.models() == ()
    assert pauses == [3, 0, 1]
    assert left == []


async def _models(answer) -> tuple:
    async with AsyncClient("http://facet.test", transport=httpx.MockTransport(answer)) as client:
        return await client.models()


def test_the_other_client_does_the_same(pauses):
    answer, _ = answering(full("3"), httpx.ConnectError("refused"), models())
    assert asyncio.run(_models(answer)) == ()
    assert pauses[0] == 3
    assert 0 < pauses[1] <= 0.5


def test_tries_are_bounded(pauses):
    answer, left = answering(*[full("1")] * 9)
    with remote(answer, retries=Retries(tries=3)) as client, pytest.raises(RateLimited) as caught:
        client.models()
    assert pauses == [1, 1]
    assert len(left) == 6
    assert caught.value.retry_after == 1


def test_a_wait_beyond_the_limit_is_left_to_the_caller(pauses):
    answer, _ = answering(full("31"))
    with remote(answer) as client, pytest.raises(RateLimited) as caught:
        client.models()
    assert pauses == []
    assert caught.value.retry_after == 31


def test_pauses_for_broken_connections_grow_up_to_the_limit(pauses):
    answer, _ = answering(*[httpx.ConnectError("refused")] * 9)
    with remote(answer, retries=Retries(tries=9, longest_wait=2)) as client, pytest.raises(ConnectError):
        client.models()
    assert len(pauses) == 8
    for place, pause in enumerate(pauses):
        assert min(2, 0.125 * 2**place) <= pause <= min(2, 0.25 * 2**place)


@pytest.mark.parametrize("answer", [httpx.Response(422), httpx.Response(500), httpx.ReadTimeout("late")])
def test_nothing_else_is_tried_again(pauses, answer):
    answered, _ = answering(answer)
    with remote(answered) as client, pytest.raises((RequestError, TransportError, Exception)):
        client.models()
    assert pauses == []


def test_a_service_that_does_not_say_when_is_tried_again_soon(pauses):
    answer, _ = answering(httpx.Response(503), httpx.Response(503))
    with remote(answer, retries=Retries(tries=2)) as client, pytest.raises(Unavailable):
        client.models()
    assert 0.125 <= pauses[0] <= 0.25


@pytest.mark.parametrize(("values", "named"), [({"tries": 0}, "tries=0"), ({"longest_wait": -1.0}, "longest_wait")])
def test_senseless_values_are_refused(values, named):
    with pytest.raises(ValueError, match=named):
        Retries(**values)
