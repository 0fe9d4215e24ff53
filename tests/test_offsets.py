"""Where reading starts, and when a person has to be asked first."""

from collections.abc import Mapping

import pytest

from consumer.offsets import (
    CheckpointLost,
    Extent,
    OffsetsOutOfRetention,
    Reset,
    TopicMadeAnew,
    dropped_before,
    start_offsets,
    was_made_anew,
)

EXTENTS = {0: Extent(100, 200), 1: Extent(0, 50)}


def start(
    saved: Mapping[int, int] | None,
    reset: Reset | None = None,
    *,
    committed: Mapping[int, int] | None = None,
    extents: Mapping[int, Extent] = EXTENTS,
) -> dict[int, int]:
    return start_offsets("events", "headrace", extents, saved, lambda: committed or {}, reset)


def test_the_very_first_start_reads_from_the_first_record() -> None:
    assert start(None) == {0: 100, 1: 0}


def test_a_checkpoint_says_where_to_go_on() -> None:
    assert start({0: 150, 1: 50}) == {0: 150, 1: 50}


@pytest.mark.parametrize("reset", Reset)
def test_reset_does_not_move_what_a_checkpoint_can_go_on_from_and_says_so(
    reset: Reset, caplog: pytest.LogCaptureFixture
) -> None:
    assert start({0: 150, 1: 7}, reset, committed={0: 120, 1: 3}) == {0: 150, 1: 7}
    assert [record.getMessage() for record in caplog.records] == [
        f"--reset {reset} has no effect: the checkpoint says where to go on in events, and its records are there. To "
        "begin anew, move HEADRACE_CHECKPOINT_DIR away or name another one"
    ]


def test_without_reset_there_is_nothing_to_say_of_a_start_from_a_checkpoint(caplog: pytest.LogCaptureFixture) -> None:
    assert start({0: 150, 1: 7}) == {0: 150, 1: 7}
    assert caplog.records == []


@pytest.mark.parametrize("offset", [100, 200])
def test_the_first_record_and_the_end_are_both_within_the_topic(offset: int) -> None:
    assert start({0: offset, 1: 0}) == {0: offset, 1: 0}


def test_a_partition_that_the_checkpoint_does_not_know_is_read_from_its_first_record() -> None:
    assert start({0: 150}) == {0: 150, 1: 0}


def test_committed_offsets_without_a_checkpoint_are_refused_with_every_choice() -> None:
    with pytest.raises(CheckpointLost) as caught:
        start(None, committed={0: 120, 1: 3})

    message = str(caught.value)
    assert "group headrace" in message
    assert "events[0] at 120, events[1] at 3" in message
    assert all(f"--reset {reset}" in message for reset in Reset)


@pytest.mark.parametrize(
    ("reset", "expected"),
    [(Reset.EARLIEST, {0: 100, 1: 0}), (Reset.LATEST, {0: 200, 1: 50}), (Reset.COMMITTED, {0: 120, 1: 0})],
)
def test_without_a_checkpoint_the_person_says_where(reset: Reset, expected: dict[int, int]) -> None:
    assert start(None, reset, committed={0: 120}) == expected


def test_an_offset_below_retention_is_refused_with_the_number_of_missing_events() -> None:
    with pytest.raises(
        OffsetsOutOfRetention, match=r"events\[0\]: expected offset 40, but .* 100: 60 events"
    ) as caught:
        start({0: 40, 1: 10})

    assert caught.value.missing == 60
    assert "--reset earliest" in str(caught.value)
    assert "events[1]" not in str(caught.value)


def test_an_offset_beyond_the_end_is_refused() -> None:
    with pytest.raises(
        OffsetsOutOfRetention, match=r"events\[1\]: expected offset 70, but the topic ends at 50"
    ) as caught:
        start({0: 150, 1: 70})

    assert caught.value.missing == 0


def test_a_partition_that_vanished_is_refused() -> None:
    with pytest.raises(OffsetsOutOfRetention, match=r"events\[7\].*no such partition"):
        start({0: 150, 1: 10, 7: 3})


def test_a_new_partition_that_retention_has_cut_already_is_refused() -> None:
    with pytest.raises(OffsetsOutOfRetention) as caught:
        start({1: 10})

    assert caught.value.missing == 100


def test_all_partitions_that_lost_events_are_told_at_once() -> None:
    with pytest.raises(OffsetsOutOfRetention) as caught:
        start({0: 1, 1: 2}, extents={0: Extent(10, 20), 1: Extent(30, 40)})

    assert caught.value.missing == 9 + 28
    assert "events[0]" in str(caught.value)
    assert "events[1]" in str(caught.value)


@pytest.mark.parametrize(("reset", "expected"), [(Reset.EARLIEST, 100), (Reset.LATEST, 200), (Reset.COMMITTED, 120)])
def test_an_accepted_loss_moves_only_the_partition_that_had_it(
    reset: Reset, expected: int, caplog: pytest.LogCaptureFixture
) -> None:
    offsets = start({0: 40, 1: 10}, reset, committed={0: 120, 1: 3})

    assert offsets == {0: expected, 1: 10}
    assert "60 events are missing" in caplog.text


def test_an_accepted_loss_lets_go_of_a_partition_that_vanished() -> None:
    assert start({0: 150, 1: 10, 7: 3}, Reset.EARLIEST) == {0: 150, 1: 10}


@pytest.mark.parametrize("committed", [{}, {0: 50}, {0: 250}])
def test_committed_offsets_that_are_gone_too_are_no_way_out(committed: dict[int, int]) -> None:
    with pytest.raises(OffsetsOutOfRetention):
        start({0: 40, 1: 10}, Reset.COMMITTED, committed=committed)


def test_committed_offsets_below_retention_are_refused_without_a_checkpoint() -> None:
    with pytest.raises(OffsetsOutOfRetention) as caught:
        start(None, Reset.COMMITTED, committed={0: 40})

    assert caught.value.missing == 60


@pytest.mark.parametrize(
    ("offsets", "first", "dropped"),
    [
        ([5, 6, 7], 0, None),  # no gap
        ([5, 8], 0, None),  # a transaction's marker, or compaction
        ([9], 5, None),  # the topic begins where reading goes on
        ([9], 9, (5, 4)),
        ([9], 7, (5, 2)),  # 7 and 8 are a transaction's
        ([5, 6, 20, 21], 18, (7, 11)),
        ([5, 8, 20], 20, (6, 2)),
        ([], 9, None),
    ],
)
def test_only_a_gap_below_the_first_record_is_a_loss(
    offsets: list[int], first: int, dropped: tuple[int, int] | None
) -> None:
    assert dropped_before(5, offsets, first) == dropped


def test_a_topic_of_another_id_is_refused_with_the_way_out() -> None:
    with pytest.raises(TopicMadeAnew, match=r"events is not .* was old and is new now .*made anew\?.*--reset earliest"):
        was_made_anew("events", "old", "new", None)


@pytest.mark.parametrize("reset", [*Reset])
def test_a_person_may_accept_that_a_topic_is_another_one(reset: Reset) -> None:
    assert was_made_anew("events", "old", "new", reset)


@pytest.mark.parametrize("ids", [("same", "same"), (None, "new"), ("old", None), (None, None)])
def test_a_topic_is_the_same_where_its_id_is_or_where_nobody_knows_one(ids: tuple[str | None, str | None]) -> None:
    assert not was_made_anew("events", *ids, None)
