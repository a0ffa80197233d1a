"""Conditions on records: what they mean, and one line for what is none."""

from __future__ import annotations

import math

import pytest

from dmsr_cli.cli.conditions import FIELDS, parse_condition
from dmsr_cli.errors import SettingsError

RECORD = {
    **{"noise_level": 21.5, "kernel_width": 1.6, "width": 1000, "height": 2000},
    **{"orientation": None, "scale": 4},
}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("noise_level > 20", True),
        ("noise_level>20", True),
        ("NOISE_LEVEL > 2e1", True),
        ("noise_level < 21.5", False),
        ("noise_level <= 21.5", True),
        ("noise_level >= 21.6", False),
        ("noise_level == 21.5", True),
        ("noise_level != 21.5", False),
        ("noise_level > -5", True),
        ("noise_level > .5", True),
        ("megapixels == 2", True),
        ("noise_level > 20 and kernel_width > 2", False),
        ("noise_level > 20 OR kernel_width > 2", True),
        ("noise_level > 20 or width > 5000 and height < 3", True),
        ("width > 5000 and height < 3 or scale == 4", True),
        ("width > 5000 or height < 3 or scale == 2", False),
        ("orientation >= 0", False),
        ("orientation != 7", False),
        ("anisotropy < 9", False),
    ],
)
def test_what_holds(text, expected):
    assert parse_condition(text).holds(RECORD) is expected


def test_megapixels_of_what_could_not_be_read():
    assert not parse_condition("megapixels < 1").holds({"width": None, "height": None})


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "begins with a field"),
        ("   ", "begins with a field"),
        ("and", "begins with a field, not 'and'"),
        ("3 < width", "begins with a field, not '3'"),
        ("noise > 3", "unknown field 'noise'"),
        ("input == 3", "unknown field 'input'"),
        ("noise_level", "after noise_level come"),
        ("noise_level >", "after noise_level come"),
        ("noise_level 3", "after noise_level come"),
        ("noise_level > nan", "after noise_level come"),
        ("noise_level > > 3", "after noise_level come"),
        ("noise_level > width", "after noise_level come"),
        ("noise_level > 3 and", "missing after 'and'"),
        ("noise_level > 3 or width > 2 and", "missing after 'and'"),
        ("noise_level > 3 width < 2", "after a number come"),
        ("noise_level > 3 xor width < 2", "not 'xor'"),
        ("noise_level > 3 and and width < 2", "not 'and'"),
        ("noise_level = 3", "'=' is no part"),
        ("(noise_level > 3)", "'(noise_level' is no part"),
        ("noise_level > 3; import os", "';' is no part"),
        ("noise_level > 3\n", None),
    ],
)
def test_what_is_none(text, said):
    if said is None:
        assert parse_condition(text).groups
        return
    with pytest.raises(SettingsError) as caught:
        parse_condition(text)
    message = str(caught.value)
    assert said in message
    assert "\n" not in message
    assert all(field in message for field in FIELDS)


def test_values_that_are_no_numbers_fulfil_nothing_by_accident():
    assert not parse_condition("noise_level > 0").holds({"noise_level": math.nan})
