"""The drift benchmark: streams that change when they say, and a time to recover that means what it says."""

import json
from collections import Counter

import numpy as np
import pytest

from benchmarks import drift
from benchmarks.drift import WINDOW, deal_anew, make_stream, recovered_after, shorter
from producer.simulate import simulate


def test_dealing_anew_moves_items_after_the_turn_only_and_keeps_popularity():
    stream = list(simulate(users=50, items=200, events=4_000, late_share=0, seed=3))

    dealt = deal_anew(stream, 2_000, seed=1)

    assert dealt[:2_000] == stream[:2_000]
    moved = [(old, new) for old, new in zip(stream[2_000:], dealt[2_000:], strict=True) if old.item_id != new.item_id]
    assert len(moved) > 1_500
    assert all(old.user_id == new.user_id and old.timestamp == new.timestamp for old, new in moved)
    before, after = (sorted(Counter(event.item_id for event in part).values()) for part in (stream, dealt))
    assert after[-1] == pytest.approx(before[-1], rel=0.6)
    assert len({old.item_id for old in stream} ^ {new.item_id for new in dealt}) <= 25


@pytest.mark.parametrize("name", ["families", "tastes"])
def test_a_stream_that_changes_says_when(name):
    stream, turn = make_stream(name, events=1_000, users=20, seed=0)

    assert (len(stream), turn) == (1_000, 500)


def test_the_time_to_recover_is_when_the_newest_window_is_nearly_as_good_as_before():
    good, bad = np.tile([True, False], 5_000), np.zeros(4_000, dtype=np.bool_)
    hits = np.concatenate((good, bad, good))

    found = recovered_after(hits, len(good))

    assert found == pytest.approx(len(bad) + 0.95 * WINDOW, abs=3)
    assert recovered_after(np.concatenate((good, bad)), len(good)) is None


def test_where_only_the_answer_recovers_the_gain_is_a_lower_bound():
    assert shorter(1_000, 4_000, 30_000) == 0.75
    assert shorter(15_000, None, 30_000) == 0.5
    assert shorter(None, 4_000, 30_000) is None


def test_the_command_prints_each_run_with_its_settings(capsys):
    status = drift.main(
        ["--stream", "tastes", "--events", "600", "--users", "10", "--seeds", "1", "--batch-size", "100"]
    )

    first, last = (json.loads(line) for line in capsys.readouterr().out.splitlines())
    assert status == 0
    assert (first["stream"], first["turn"], first["batch_size"]) == ("tastes", 300, 100)
    assert first["without"]["drift_boost"] == 1
    assert last["settings"]["batch_size"] == 100
