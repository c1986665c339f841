"""Numbers of things, in words."""

from __future__ import annotations

from shared.rules.number_words import number_of


def test_one_thing_is_told_as_one() -> None:
    assert [number_of(number, "device") for number in (0, 1, 2)] == ["0 devices", "1 device", "2 devices"]
    assert number_of(1, "device", more=True) == "more than 1 devices"
