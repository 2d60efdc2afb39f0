"""Answers and failures become one family of exceptions."""

from __future__ import annotations

import httpx
import pytest

import facet
from facet import errors
from tests.facet.conftest import once

PROBLEM = {
    "status": 422,
    "detail": "attributes.Smilng: is not an attribute of this model; did you mean Smiling?",
    "request_id": "abc",
    "errors": [{"field": "attributes.Smilng", "value": "Smilng", "rule": "is none", "suggestions": ["Smiling"]}],
}


def failing(status: int, **answer) -> facet.ServiceError:
    with once(lambda _: httpx.Response(status, **answer)) as client, pytest.raises(facet.ServiceError) as caught:
        client.models()
    assert caught.value.status == status
    return caught.value


def test_a_problem_keeps_everything_it_says():
    error = failing(422, json=PROBLEM)
    assert type(error) is facet.RequestError
    assert error.detail == PROBLEM["detail"]
    assert error.errors == PROBLEM["errors"]
    assert error.request_id == "abc"
    assert str(error) == f"{PROBLEM['detail']} (status 422, request abc)"


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, facet.RequestError),
        (404, facet.ModelNotFound),
        (408, facet.TimedOut),
        (413, facet.RequestError),
        (429, facet.RateLimited),
        (500, facet.ServiceError),
        (503, facet.Unavailable),
        (504, facet.TimedOut),
    ],
)
def test_each_status_has_its_kind(status, kind):
    assert type(failing(status)) is kind


def test_seconds_to_wait_are_told_where_the_service_says_them():
    assert failing(429, headers={"Retry-After": "3"}).retry_after == 3
    assert failing(503, headers={"Retry-After": "Fri, 31 Dec 1999 23:59:59 GMT"}).retry_after is None
    assert failing(503).retry_after is None


@pytest.mark.parametrize("body", [b"<html>Bad Gateway</html>", b'"text"', b"\xff"])
def test_an_error_page_of_something_before_the_service_is_an_error_too(body):
    error = failing(502, content=body, headers={"X-Request-ID": "xyz"})
    assert error.detail == "Bad Gateway"
    assert error.request_id == "xyz"


@pytest.mark.parametrize(
    "answer",
    [
        {"text": "hello"},
        {"json": []},
        {"json": {"models": [{"name": "alone"}]}},
        {"content": b"\xff", "headers": {"Content-Type": "application/json"}},
    ],
)
def test_an_answer_that_is_none_of_facets_is_named(answer):
    with once(lambda _: httpx.Response(200, **answer)) as client:
        with pytest.raises(facet.UnexpectedAnswer, match=r"http://facet\.test/below/v1/models"):
            client.models()
        with pytest.raises(facet.UnexpectedAnswer):
            client.sweep(b"", "Smiling")


@pytest.mark.parametrize(
    ("raised", "kind"),
    [
        (httpx.ConnectError("refused"), facet.ConnectError),
        (httpx.RemoteProtocolError("gone"), facet.ConnectError),
        (httpx.ReadTimeout(""), facet.TransportError),
        (httpx.DecodingError("broken"), facet.TransportError),
    ],
)
def test_errors_of_httpx_are_translated_with_their_cause(raised, kind):
    def answer(_):
        raise raised

    with once(answer) as client, pytest.raises(facet.TransportError, match=r"http://facet\.test") as caught:
        client.models()
    assert type(caught.value) is kind
    assert caught.value.__cause__ is raised


def test_the_tree_in_the_docstring_is_the_tree():
    kinds = [k for k in vars(errors).values() if isinstance(k, type) and issubclass(k, errors.FacetError)]
    for kind in kinds:
        (line,) = [x for x in errors.__doc__.splitlines() if kind.__name__ in x.strip(" |+-").split()[:1]]
        depth = len(kind.__mro__) - len(errors.FacetError.__mro__)
        assert line.index(kind.__name__) == 4 * depth, kind
        assert kind.__name__ in facet.__all__
