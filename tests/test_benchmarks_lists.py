"""The benchmark of lists alone: both modes after the same steps, with what it says about itself."""

import json
import sys
from dataclasses import asdict, replace

import pytest

from benchmarks import lists
from benchmarks.lists import Given, measure

SMALL = Given(items=300, users=200, width=8, batch=32, events=640, seconds=0.2, compared=8)


def test_both_modes_are_measured_over_the_same_lists_and_exact_ones_have_full_recall():
    figures = measure(SMALL)

    assert list(figures) == ["exact", "fast"]
    assert figures["exact"]["recall"] == 1
    assert 0.9 <= figures["fast"]["recall"] <= 1
    assert figures["exact"]["lists"] == figures["fast"]["lists"] > 0
    for one in figures.values():
        assert one["users_per_second"] > 0
        assert one["settings"] == asdict(SMALL)


def test_threads_are_measured_beside_one():
    figures = measure(replace(SMALL, threads=2), ("exact",))

    assert figures["exact"]["recall"] == 1
    assert figures["exact"]["of_one_thread"] > 0
    assert "of_one_thread" not in measure(SMALL, ("exact",))["exact"]


def test_no_modes_are_refused():
    with pytest.raises(ValueError, match="at least one"):
        measure(SMALL, ())


def test_the_command_prints_a_line_for_each_catalogue_and_mode(monkeypatch, capsys):
    monkeypatch.setattr(
        lists, "measure", lambda given, modes: {mode: {"mode": mode, "of": given.items} for mode in modes}
    )
    monkeypatch.setattr(sys, "argv", ["lists", "--items", "10,20", "--modes", "fast"])

    lists.main()

    assert [json.loads(line) for line in capsys.readouterr().out.splitlines()] == [
        {"mode": "fast", "of": 10},
        {"mode": "fast", "of": 20},
    ]
