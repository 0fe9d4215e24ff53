"""Memory of a row, on a tiny scale: figures add up, and a wrong number of ids is refused. Speed is not judged here."""

import numpy as np
import pytest

from benchmarks import rows


def test_bytes_are_those_of_each_array_once_and_of_nothing_borrowed():
    vocabulary = rows.Vocabulary()
    whole = rows.bytes_of(vocabulary)

    vocabulary.rows(rows.numbered("u", np.arange(100)))

    assert rows.bytes_of(vocabulary) >= whole + 100 * (8 + 8 + 4 + 4)
    assert rows.bytes_of(vocabulary, vocabulary) == rows.bytes_of(vocabulary)


def test_numbered_ids_are_what_they_say():
    assert rows.numbered("u", np.array([0, 7, 1_234_567])).names() == ["u0000000", "u0000007", "u1234567"]


@pytest.mark.parametrize("kind", ["users", "items"])
def test_the_kinds_of_state_add_up_to_the_whole(kind, monkeypatch):
    monkeypatch.setattr(rows, "WARM_ROWS", 512)

    figures = rows.measure_state(kind, 2000, "blend")

    assert figures["rows"] == 2000
    assert figures["bytes_a_row"] == pytest.approx(sum(figures["by_kind"].values()), abs=1)
    assert figures["by_kind"]["history" if kind == "users" else "pairs"] > 700
    assert figures["by_kind"]["id"] > 24


def test_a_vocabulary_takes_no_more_room_when_as_many_ids_come_as_go():
    figures = rows.measure_vocabulary(20_000)

    assert figures["given_back"]["rows"] == 5_000
    assert figures["given_back"]["bytes_a_row"] < 1.5 * figures["bytes_a_row"]


def test_too_few_ids_are_refused():
    with pytest.raises(ValueError, match="--ids: expected at least 5120, got 10"):
        list(rows.measure(10, 64, "blend"))
