"""Where reading starts, and when it must not without a person's word: rules over offsets, nothing asked of Kafka.

Progress is in the checkpoint. What the group has committed is shown to people, and believed only when told to.
"""

import logging
from collections.abc import Callable, Iterable, Mapping
from enum import StrEnum
from typing import Final, NamedTuple

_log = logging.getLogger(__name__)

ACCEPT_LOSS: Final = "Start with `--reset earliest` to accept the loss and go on from the first record there is."
ACCEPT_ANEW: Final = (
    "The checkpoint has nothing of the new one: start with `--reset earliest` to learn all of it, or with "
    "`--reset latest` to learn what comes from now on"
)
READ_ANEW: Final = "Start again: each start reads all that the topic has."


class Reset(StrEnum):
    """Where to read from when there is no offset to go on from: a person's choice, `--reset`."""

    EARLIEST = "earliest"
    LATEST = "latest"
    COMMITTED = "committed"


class Extent(NamedTuple):
    """What a partition holds: records from `first` up to, but not including, `end`."""

    first: int
    end: int


class SourceError(RuntimeError):
    """Reading cannot start or go on."""


class CheckpointLost(SourceError):
    """The group has committed offsets, so something was learned, but there is no checkpoint."""


class TopicMadeAnew(SourceError):
    """The topic is another one than that which was read before: the offsets say nothing of it."""


class OffsetsOutOfRetention(SourceError):
    """The next record to read is not in the topic any more. `missing` events were never read."""

    def __init__(self, message: str, missing: int) -> None:
        super().__init__(message)
        self.missing = missing


def start_offsets(
    topic: str,
    group_id: str,
    extents: Mapping[int, Extent],
    saved: Mapping[int, int] | None,
    committed: Callable[[], Mapping[int, int]],
    reset: Reset | None,
) -> dict[int, int]:
    """Next offset to read, per partition of `extents`.

    With a checkpoint (`saved`) each partition goes on from there, whatever `reset` says: an event must not be learned
    twice into a saved state. `reset` is only for partitions where that is impossible because the records are gone;
    without it they raise OffsetsOutOfRetention. A partition that the checkpoint does not know starts at 0.

    Without one: from the first record; but where the group has committed offsets, CheckpointLost, unless `reset`
    says what to do. COMMITTED goes on from the group's offsets, and from the first record where it has none.
    """
    firsts = {partition: extent.first for partition, extent in extents.items()}
    ends = {partition: extent.end for partition, extent in extents.items()}
    if saved is None:
        if reset is Reset.EARLIEST:
            return firsts
        if reset is Reset.LATEST:
            return ends
        group = committed()
        if reset is None and group:
            raise _checkpoint_lost(topic, group_id, group)
        return _readable_or_raise(topic, {**firsts, **_only(group, extents)}, extents)

    wanted = {**dict.fromkeys(extents, 0), **{p: offset for p, offset in saved.items() if p in extents or offset > 0}}
    gone = {partition: offset for partition, offset in wanted.items() if not readable(offset, extents.get(partition))}
    if reset is not None and not gone:
        _log.warning(
            "--reset %s has no effect: the checkpoint says where to go on in %s, and its records are there. To begin "
            "anew, move HEADRACE_CHECKPOINT_DIR away or name another one",
            reset,
            topic,
        )
    if reset is None or not gone:
        return _readable_or_raise(topic, wanted, extents)
    _log.warning("%s; accepted by --reset %s", out_of_retention(topic, gone, extents), reset)
    fallback = {Reset.EARLIEST: firsts, Reset.LATEST: ends}.get(reset) or committed()
    return _readable_or_raise(topic, _only({**wanted, **_only(fallback, gone)}, extents), extents)


def was_made_anew(
    topic: str, saved_id: str | None, found_id: str | None, reset: Reset | None, what_to_do: str = ACCEPT_ANEW
) -> bool:
    """Whether the topic is another one than when it had the saved id: then the offsets of then say nothing of it.

    That is for a person to accept: without `reset` it raises TopicMadeAnew, which says `what_to_do`. Where an id is not
    known, nothing is compared.
    """
    if saved_id is None or found_id is None or saved_id == found_id:
        return False
    what = (
        f"{topic} is not the topic that was read before: its id was {saved_id} and is {found_id} now "
        "(was it made anew?)"
    )
    if reset is None:
        raise TopicMadeAnew(f"{what}. {what_to_do}")
    _log.warning("%s; accepted by --reset %s", what, reset)
    return True


def dropped_before(expected: int, offsets: Iterable[int], first: int) -> tuple[int, int] | None:
    """(offset that should have come, number of records lost) of the first gap that retention made, if there is one.

    `offsets` came after `expected`, in order, from a partition that now begins at `first`. A gap above `first` is in
    order: there stood a transaction's marker, an aborted record, or one that compaction took.
    """
    for offset in offsets:
        missing = min(offset, first) - expected
        if missing > 0:
            return expected, missing
        expected = offset + 1
    return None


def readable(offset: int, extent: Extent | None) -> bool:
    """Whether reading can go on at `offset`: there is a record, or the next one will get it."""
    return extent is not None and extent.first <= offset <= extent.end


def _readable_or_raise(topic: str, wanted: Mapping[int, int], extents: Mapping[int, Extent]) -> dict[int, int]:
    gone = {partition: offset for partition, offset in wanted.items() if not readable(offset, extents.get(partition))}
    if gone:
        raise out_of_retention(topic, gone, extents)
    return dict(wanted)


def _only(offsets: Mapping[int, int], partitions: Iterable[int]) -> dict[int, int]:
    return {partition: offsets[partition] for partition in partitions if partition in offsets}


def out_of_retention(
    topic: str, gone: Mapping[int, int], extents: Mapping[int, Extent], what_to_do: str = ACCEPT_LOSS
) -> OffsetsOutOfRetention:
    """The error for partitions that should go on at offsets (`gone`) where there are no records."""
    missing = 0
    lines = []
    for partition, offset in sorted(gone.items()):
        extent = extents.get(partition)
        where = f"{topic}[{partition}]: expected offset {offset}, but"
        if extent is None:
            lines.append(f"{where} the topic has no such partition any more")
        elif offset < extent.first:
            missing += extent.first - offset
            lines.append(f"{where} the topic now begins at {extent.first}: {extent.first - offset} events are missing")
        else:
            lines.append(f"{where} the topic ends at {extent.end}, {offset - extent.end} before it (was it made anew?)")
    return OffsetsOutOfRetention(f"{'; '.join(lines)}. {what_to_do}", missing)


def _checkpoint_lost(topic: str, group_id: str, group: Mapping[int, int]) -> CheckpointLost:
    offsets = ", ".join(f"{topic}[{partition}] at {offset}" for partition, offset in sorted(group.items()))
    return CheckpointLost(
        f"there is no checkpoint, but group {group_id} has committed offsets ({offsets}): what was learned up to there "
        "is gone. Put the checkpoint back (HEADRACE_CHECKPOINT_DIR), or choose: --reset earliest learns the topic "
        "again from its first record, --reset committed goes on from those offsets with an empty model, --reset latest "
        "starts with what comes from now on."
    )
