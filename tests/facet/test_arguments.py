"""How a command line is read."""

from __future__ import annotations

import argparse

import pytest

from facet import arguments
from facet.arguments import UsageError


def read(line: str) -> argparse.Namespace:
    return arguments.parser().parse_args(line.split())


def test_pictures_and_attributes_may_stand_anywhere():
    requested = read("edit a.jpg Smiling=1 -o out.jpg b.jpg --strength 1.5 Male=-1")
    assert requested.given == ["a.jpg", "Smiling=1", "b.jpg", "Male=-1"]
    assert arguments.attributes(requested.given) == (["a.jpg", "b.jpg"], {"Smiling": 1.0, "Male": -1.0})


def test_a_file_with_an_equals_sign_is_a_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a=1.jpg").touch()
    assert arguments.attributes(["a=1.jpg", "Smiling=1"]) == (["a=1.jpg"], {"Smiling": 1.0})


@pytest.mark.parametrize("item", ["Smiling=", "Smiling=yes"])
def test_a_value_that_is_no_number_is_named(item):
    with pytest.raises(UsageError, match=f"{item}: the value must be a number"):
        arguments.attributes([item])


def test_an_attribute_given_twice_is_named():
    with pytest.raises(UsageError, match="Smiling=0: Smiling is given twice"):
        arguments.attributes(["Smiling=1", "Smiling=0"])


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("edit a.jpg Smiling=1", "the following arguments are required: -o"),
        ("edit -o b.jpg", "required: PICTURE|NAME=VALUE"),
        ("edit a.jpg -o b.jpg --face first", "argument --face: 'first': must be a number"),
        ("edit a.jpg -o b.jpg --jobs 0", "argument --jobs: '0': must be a whole number above 0"),
        ("edit a.jpg -o b.jpg --timeout inf", "argument --timeout: 'inf': must be a number of seconds"),
        ("sweep a.jpg -o b.jpg --layout row", "argument --layout: invalid choice: 'row'"),
        ("edit a.jpg -o b.jpg --stength 1", "unrecognized arguments: --stength"),
        ("ed", "invalid choice: 'ed'"),
    ],
)
def test_bad_usage_names_argument_value_and_rule(line, said, capsys):
    with pytest.raises(SystemExit) as ended:
        read(line)
    assert ended.value.code == 2
    assert said in capsys.readouterr().err


def test_negative_numbers_are_values():
    requested = read("sweep a.jpg Young -o b.png --start -1 --target -0.5")
    assert (requested.start, requested.target) == (-1.0, -0.5)
