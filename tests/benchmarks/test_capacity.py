"""What a request costs becomes what many of them need."""

from __future__ import annotations

import pytest

from benchmarks.capacity import BILLION, DAY, Cost, needs, report, stages_of

COST = Cost(
    alone=8.0,
    among_others=7.0,
    stages={"decode": 0.5, "queue": 3.0, "infer": 5.0, "encode": 0.5},
    bytes_in=7_000,
    bytes_out=10_000,
    memory_megabytes=400,
)


def test_a_thousand_a_second():
    found = needs(COST, 1000)
    assert found.busy == pytest.approx(7.0)
    assert found.cores == pytest.approx(10.0)
    assert (found.bytes_in, found.bytes_out) == (7_000_000, 10_000_000)


def test_a_billion_in_a_day_is_the_same_work_at_any_pace():
    found = needs(COST, BILLION / DAY, use=1.0)
    assert found.cores * 24 == pytest.approx(BILLION * 7.0 / 3_600_000)
    assert found.bytes_in * DAY == pytest.approx(7e12)


def test_waiting_is_no_work():
    assert COST.rest == pytest.approx(2.0)


def test_stages_are_read_as_the_service_writes_them():
    assert stages_of("decode;dur=0.41, queue;dur=0.05, infer;dur=5.20") == {"decode": 0.41, "queue": 0.05, "infer": 5.2}
    assert stages_of("") == {}


def test_the_report_has_a_row_of_each_kind_in_each_table():
    lines = report("a machine", {"edit": COST, "generate": COST}).splitlines()
    rows = [line for line in lines if line.startswith(("| edit |", "| generate |"))]
    assert len(rows) == 6
    assert "| 7.0 | 10.0 | 56 | 80 |" in rows[2]
    assert "| 1,944 | 2,778 | 7.0 | 10.0 |" in rows[4]
