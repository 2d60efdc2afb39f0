"""What visitors send: photographs that no cache knows, and a slider's steps."""

from __future__ import annotations

import io
import json

from PIL import Image

from benchmarks.interactive import never_seen, report, slider
from benchmarks.serving import Sample
from benchmarks.workloads import photograph


def test_photographs_differ_in_bytes_and_show_the_same():
    bodies = [request.parts()[2] for request in never_seen(photograph(Image.new("RGB", (8, 8), "red"), 64, 48), 12)]
    assert len(set(bodies)) == 12
    pictures = [Image.open(io.BytesIO(body)) for body in bodies]
    assert {picture.size for picture in pictures} == {(64, 48)}
    assert len({picture.tobytes() for picture in pictures}) == 1


def test_a_slider_goes_from_end_to_end_and_back_without_a_value_twice():
    bodies = [json.loads(request.parts()[2]) for request in slider("handle")]
    values = [body["attributes"]["Smiling"] for body in bodies]
    assert {body["photo"] for body in bodies} == {"handle"}
    assert len(set(values)) == len(values)
    top = values.index(max(values))
    assert (values[0], values[top]) == (-1, 1)
    assert values[: top + 1] == sorted(values[: top + 1])
    assert values[top:] == sorted(values[top:], reverse=True)


def test_the_report_has_a_row_for_each_number_of_visitors():
    found = {("a step", 1): Sample(50, 20.04, 31, 0, 25, 500), ("a step", 8): Sample(70, 90, 120, 1, 26, 500)}
    text = report("facts", found)
    assert "| a step | 1 | 20.0 | 31.0 | 50.0 | 25.0 | 0 |" in text
    assert "| a step | 8 | 90.0 | 120.0 | 70.0 | 26.0 | 1 |" in text
