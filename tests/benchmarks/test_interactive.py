"""What visitors wait for, as a table."""

from __future__ import annotations

from benchmarks.interactive import report
from benchmarks.serving import Sample


def test_the_report_has_a_row_for_each_number_of_visitors():
    found = {("a step", 1): Sample(50, 20.04, 31, 0, 25, 500), ("a step", 8): Sample(70, 90, 120, 1, 26, 500)}
    text = report("facts", found)
    assert "| a step | 1 | 20.0 | 31.0 | 50.0 | 25.0 | 0 |" in text
    assert "| a step | 8 | 90.0 | 120.0 | 70.0 | 26.0 | 1 |" in text
