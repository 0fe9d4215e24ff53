"""Steps are made again exactly as they were cut; nothing is lost, repeated or waited for without end."""

import json
import os
import shutil
import threading
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import mkdtemp

import pytest
from faulty_disk import FaultyDisk, SimulatedCrash, disk_full, without_waiting
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule
from stream_fakes import FakeSource, Record, Topic, places
from structlog.testing import capture_logs

from consumer.journal import Entry, Journal, JournaledSource, JournalMismatch, Run, runs_of
from consumer.records import Taken


@pytest.fixture(autouse=True)
def quick_disk(monkeypatch):
    without_waiting(monkeypatch)


@pytest.fixture
def journals(tmp_path):
    """A function that opens the journal of this test's folder anew, as the next run does."""
    opened = []

    def reopen():
        opened.append(Journal(tmp_path / "journal"))
        return opened[-1]

    yield reopen

    for journal in opened:
        journal.close()


def started(journal, *steps, oldest_step=0):
    """Let the journal begin a segment with these steps, each of one record whose offset is the step's number."""
    journal.start_segment(oldest_step)
    for step in steps:
        journal.append(step, [Run(0, step, step + 1)])
    return journal


def numbers(entries):
    return [entry.step for entry in entries]


def segments(journal):
    return sorted(path.name for path in journal.folder.iterdir())


# --- the file ---


def test_steps_come_back_as_they_were_written(journals):
    journal = journals()
    journal.start_segment(0)
    journal.append(1, [Run(0, 0, 5), Run(7, 100, 101)])
    journal.append(2, [Run(0, 5, 9)])

    assert journals().steps_after(0) == [Entry(1, [Run(0, 0, 5), Run(7, 100, 101)]), Entry(2, [Run(0, 5, 9)])]


def test_only_the_steps_after_the_checkpoint_come_back(journals):
    started(journals(), 1, 2, 3, 4)

    assert numbers(journals().steps_after(2)) == [3, 4]
    assert journals().steps_after(4) == []


def test_a_journal_without_a_folder_has_no_steps(journals):
    assert journals().steps_after(0) == []


def test_a_step_is_on_the_disk_when_append_returns(journals):
    journal = journals()
    disk = FaultyDisk(journal.folder.parent)

    with disk.watched():
        started(journal, 1, 2)
    disk.lose_power()

    assert numbers(journals().steps_after(0)) == [1, 2]


@pytest.mark.parametrize("effect", ["write", "fdatasync"])
def test_a_step_whose_append_crashed_is_whole_or_absent(journals, effect):
    journal = started(journals(), 1)
    disk = FaultyDisk(journal.folder)

    with pytest.raises(SimulatedCrash), disk.watched(fail_at=["write", "fdatasync"].index(effect)):
        journal.append(2, [Run(0, 2, 3)])
    with capture_logs() as logs:
        found = numbers(journals().steps_after(0))

    assert found == {"write": [1], "fdatasync": [1, 2]}[effect]
    assert logs == []


@pytest.mark.parametrize("length", range(1, 22))
def test_a_torn_last_line_is_as_if_it_were_not_there(journals, length):
    journal = started(journals(), 1, 2)
    (file,) = journal.folder.iterdir()
    whole = file.read_bytes()
    torn = whole.splitlines(keepends=True)[1]
    assert len(torn) > length

    file.write_bytes(whole[: len(whole) - len(torn) + length])
    with capture_logs() as logs:
        found = numbers(journals().steps_after(0))

    assert found == [1]
    assert logs == []


def test_the_run_after_a_torn_line_goes_on_in_a_segment_of_its_own(journals):
    first = started(journals(), 1, 2)
    with next(first.folder.iterdir()).open("ab") as file:
        file.write(b"0123abcd [3,[[0,")

    second = journals()
    assert numbers(second.steps_after(0)) == [1, 2]
    started(second, 3, 4)

    assert numbers(journals().steps_after(0)) == [1, 2, 3, 4]


def test_no_step_at_or_behind_an_altered_byte_is_believed_and_it_is_told(journals):
    journal = started(journals(), 1, 2, 3)
    (file,) = journal.folder.iterdir()
    whole = file.read_bytes()
    first, second, _ = whole.splitlines(keepends=True)
    for place in range(len(first), len(first) + len(second)):
        altered = bytes([whole[place] ^ 2])
        file.write_bytes(whole[:place] + altered + whole[place + 1 :])

        with capture_logs() as logs:
            found = numbers(journals().steps_after(0))

        assert found == [1], f"byte {place} became {altered!r}"
        if place < len(first) + len(second) - 1:  # without its end a line takes the next one with it: like a torn one
            assert [(log["log_level"], log["step"], log["last"]) for log in logs] == [("error", 2, 3)]


def test_what_is_no_journal_line_at_all_is_not_believed(journals):
    journal = started(journals(), 1)
    bodies = [b"3", b"[2]", b"[2,3]", b"[2,[[0]]]", b'{"step":2}', b"[2,[[0,1,2]],4]"]
    lines = [b"%08x %s\n" % (zlib.crc32(body), body) for body in bodies]

    with next(journal.folder.iterdir()).open("ab") as file:
        file.write(b"\n\xff\xfe\n " + b"".join(lines))

    assert numbers(journals().steps_after(0)) == [1]


def test_of_a_step_written_twice_the_last_writing_counts_and_the_old_future_is_gone(journals):
    started(journals(), 1, 2, 3, 4)
    went_back = journals()
    went_back.start_segment(0)

    went_back.append(2, [Run(0, 2, 9)])

    assert journals().steps_after(0) == [Entry(1, [Run(0, 1, 2)]), Entry(2, [Run(0, 2, 9)])]


def test_segments_are_read_in_the_order_of_their_numbers(journals):
    journal = journals()
    for step in range(1, 13):
        started(journal, step)

    assert numbers(journals().steps_after(0)) == list(range(1, 13))


def test_a_file_that_is_no_segment_is_left_alone(journals):
    journal = started(journals(), 1)
    (journal.folder / "notes.log").write_text("not ours")

    reopened = journals()
    reopened.clear()

    assert segments(reopened) == ["notes.log"]


def test_appending_without_a_segment_is_refused(journals):
    with pytest.raises(RuntimeError, match="start_segment"):
        journals().append(1, [])


def test_a_cleared_journal_has_no_steps_and_can_be_begun_again(journals):
    journal = started(journals(), 1, 2)

    journal.clear()

    assert segments(journal) == []
    assert numbers(started(journal, 7).steps_after(6)) == [7]


def test_a_full_disk_stops_the_step_before_it_is_used(journals):
    topic = Topic()
    topic.append(0, b"", b"")
    journal = started(journals())
    source = fresh(topic)
    worker = JournaledSource(source, journal, 0, source.next_offsets())

    with pytest.raises(OSError, match="No space"), FaultyDisk(journal.folder).watched(0, disk_full):
        worker.take(1, 0)

    assert worker.step == 0
    assert worker.next_offsets() == {0: 0}
    assert journals().steps_after(0) == []


# --- which segments are kept ---


def test_segments_are_dropped_once_every_checkpoint_that_is_kept_is_behind_them(journals):
    journal = journals()
    started(journal, 1, 2)
    started(journal, 3, 4)
    started(journal, 5, 6, oldest_step=3)
    assert numbers(journals().steps_after(3)) == [4, 5, 6]
    assert len(segments(journal)) == 2

    started(journal, 7, oldest_step=4)

    assert numbers(journals().steps_after(4)) == [5, 6, 7]
    assert len(segments(journal)) == 2


def test_a_second_crash_before_the_first_checkpoint_loses_no_step(journals):
    started(journals(), 1, 2, 3)

    for _ in range(3):
        restarted = journals()
        assert numbers(restarted.steps_after(0)) == [1, 2, 3]
        restarted.start_segment(0)

    assert len(segments(restarted)) == 2, "the empty segments are gone"


def test_steps_still_to_be_repeated_are_kept_while_checkpoints_are_saved_in_between(journals):
    started(journals(), *range(1, 9))
    repeating = journals()
    repeating.steps_after(0)
    repeating.start_segment(0)

    for oldest_step in (1, 2, 3):  # three checkpoints, at steps 1 to 3 of the repetition
        repeating.start_segment(oldest_step)

    assert numbers(journals().steps_after(3)) == [4, 5, 6, 7, 8]


def test_going_back_to_an_older_checkpoint_keeps_the_steps_of_the_damaged_ones(journals):
    journal = journals()
    started(journal, 1, 2)
    started(journal, 3, 4, oldest_step=2)
    started(journal, 5, oldest_step=2)

    went_back = journals()  # to the checkpoint of step 2: that of step 4 is damaged
    assert numbers(went_back.steps_after(2)) == [3, 4, 5]
    went_back.start_segment(2)

    assert numbers(journals().steps_after(2)) == [3, 4, 5]


def test_a_segment_that_says_an_older_one_does_not_count_stays_as_long_as_that_one(journals):
    started(journals(), 1, 2, 3, 4, 5)
    went_back = started(journals(), 2, 3)  # steps 2 to 5 were given up

    went_back.start_segment(3)

    assert journals().steps_after(3) == []


# --- handing out again ---


def fresh(topic, offsets=None):
    source = FakeSource(topic)
    source.seek(dict.fromkeys(topic.records, 0) if offsets is None else offsets)
    return source


def everything_in(topic):
    return [place for records in topic.records.values() for place in places(records)]


def run_of(topic, journal, arrivals, *, step=0, offsets=None):
    """A run that takes once for each of these arrivals; its source, and each step's records."""
    journal.start_segment(step)
    source = fresh(topic, offsets)
    worker = JournaledSource(source, journal, step, source.next_offsets())
    taken = []
    for arrival in arrivals:
        source.arrivals = arrival
        taken.append(places(worker.take(100, 0)))
    return worker, taken


def all_of(worker, max_records=100):
    """Every step that is still to come, as (step, places)."""
    steps = []
    while records := worker.take(max_records, 0):
        steps.append((worker.step, places(records)))
    return steps


@pytest.fixture
def topic():
    """Three partitions of ten records."""
    topic = Topic(3)
    for partition in topic.records:
        topic.append(partition, *[b"%d" % number for number in range(10)])
    return topic


def test_steps_over_interleaved_partitions_are_handed_out_again_exactly_as_they_were_cut(topic, journals):
    arrivals = [[(0, 2), (1, 3), (0, 1)], [(2, 4)], [(1, 1), (2, 1), (1, 2), (0, 3)]]
    _, cut = run_of(topic, journals(), arrivals)

    source = fresh(topic)
    worker = JournaledSource(source, journals(), 0, source.next_offsets())
    again = [(places(worker.take(1, 0)), worker.step) for _ in range(3)]

    assert worker.steps_to_repeat == 3
    assert again == [(cut[0], 1), (cut[1], 2), (cut[2], 3)]
    assert not worker.is_repeating


def test_records_left_over_after_the_repetition_come_next_and_then_the_topic_goes_on(topic, journals):
    run_of(topic, journals(), [[(0, 2), (1, 1)]])

    journal = journals()
    source = fresh(topic)
    worker = JournaledSource(source, journal, 0, source.next_offsets())
    worker.take(100, 0)
    journal.start_segment(0)
    topic.append(1, b"new")
    rest = all_of(worker, max_records=4)

    assert [step for step, _ in rest] == list(range(2, 2 + len(rest)))
    assert all(len(records) <= 4 for _, records in rest)
    handed_out = [place for _, records in rest for place in records]
    assert sorted(handed_out) == sorted(set(everything_in(topic)) - {(0, 0), (0, 1), (1, 0)})
    for partition in topic.records:
        offsets = [offset for number, offset in handed_out if number == partition]
        assert offsets == sorted(offsets)


def test_a_repeated_step_waits_until_all_its_records_have_come(topic, journals):
    run_of(topic, journals(), [[(0, 3), (1, 2)]])

    source = fresh(topic)
    worker = JournaledSource(source, journals(), 0, source.next_offsets())
    found = []
    for arrival in ([(0, 9)], [], [(1, 1)], [(2, 5), (1, 1)]):
        source.arrivals = arrival
        found.append(places(worker.take(100, 0)))

    assert found == [[], [], [], [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1)]]


def test_next_offsets_are_those_of_what_was_handed_out_not_of_what_has_come(topic, journals):
    run_of(topic, journals(), [[(0, 2)], [(1, 3)]])

    source = fresh(topic)
    worker = JournaledSource(source, journals(), 0, source.next_offsets())
    before = worker.next_offsets()
    worker.take(100, 0)

    assert before == {0: 0, 1: 0, 2: 0}
    assert worker.next_offsets() == {0: 2, 1: 0, 2: 0}
    assert source.next_offsets() == {0: 10, 1: 10, 2: 10}


def test_the_end_is_reached_when_everything_below_it_was_handed_out(topic, journals):
    journal = journals()
    run_of(topic, journal, [[(0, 2)]])
    ends = {0: 10, 1: 10, 2: 10}

    source = fresh(topic)
    worker = JournaledSource(source, journal, 0, source.next_offsets())
    reached = [worker.has_reached(ends)]
    while worker.take(7, 0):
        reached.append(worker.has_reached(ends))

    assert reached == [*[False] * (len(reached) - 1), True]
    assert len(reached) > 4


def test_an_empty_take_is_no_step(journals):
    journal = journals()
    worker, taken = run_of(Topic(), journal, [[], []])

    assert taken == [[], []]
    assert worker.step == 0
    assert journals().steps_after(0) == []


def test_offset_gaps_lie_inside_a_run(journals):
    topic = Topic(2)
    topic.append(0, b"a", b"b")
    topic.append(0, b"c", gap=3)
    topic.append(1, b"x", gap=1)
    topic.append(0, b"d", gap=1)
    _, cut = run_of(topic, journals(), [[(0, 3), (1, 1)], [(0, 1)]])
    assert cut == [[(0, 0), (0, 1), (0, 5), (1, 1)], [(0, 7)]]
    assert [entry.runs for entry in journals().steps_after(0)] == [[Run(0, 0, 6), Run(1, 1, 2)], [Run(0, 7, 8)]]

    source = fresh(topic)
    again = all_of(JournaledSource(source, journals(), 0, source.next_offsets()))

    assert again == [(1, cut[0]), (2, cut[1])]


def test_runs_are_neighbours_of_one_partition_in_the_order_of_the_records():
    taken = Taken([Record(0, 3), Record(0, 4), Record(1, 0), Record(0, 5), Record(0, 9)])

    assert runs_of(taken) == [Run(0, 3, 5), Run(1, 0, 1), Run(0, 5, 10)]
    assert runs_of(Taken([])) == []


# --- a journal that does not fit ---


def journaled(journals, *steps):
    journal = journals()
    journal.start_segment(0)
    for number, runs in enumerate(steps, 1):
        journal.append(number, runs)
    return journal


def test_a_journal_that_goes_beyond_the_end_of_the_topic_is_refused_at_once(topic, journals):
    journal = journaled(journals, [Run(0, 0, 3)], [Run(1, 0, 11)])
    source = fresh(topic)

    with pytest.raises(JournalMismatch, match=r"step 2 .* records 0 to 10 of partition 1.* ends at 10") as refusal:
        JournaledSource(source, journal, 0, source.next_offsets())

    assert str(journal.folder) in str(refusal.value)
    assert "HEADRACE_CHECKPOINT_DIR" in str(refusal.value)


def test_a_journal_with_a_partition_that_the_topic_has_not_is_refused_at_once(topic, journals):
    journal = journaled(journals, [Run(3, 0, 1)])
    source = fresh(topic)

    with pytest.raises(JournalMismatch, match="partition 3"):
        JournaledSource(source, journal, 0, source.next_offsets())


def test_a_journal_with_records_from_before_the_checkpoint_is_refused_at_once(topic, journals):
    journal = journaled(journals, [Run(0, 2, 3)])
    source = fresh(topic, {0: 4, 1: 0, 2: 0})

    with pytest.raises(JournalMismatch, match="up to 4"):
        JournaledSource(source, journal, 0, source.next_offsets())


def test_a_journal_whose_steps_overlap_is_refused_at_once(topic, journals):
    journal = journaled(journals, [Run(0, 0, 3)], [Run(0, 2, 4)])
    source = fresh(topic)

    with pytest.raises(JournalMismatch, match="step 2"):
        JournaledSource(source, journal, 0, source.next_offsets())


@pytest.mark.parametrize(
    "runs",
    [
        [Run(0, 1, 3)],  # the topic has a record 0
        [Run(0, 0, 5)],  # record 4 is in a gap
        [Run(0, 0, 3), Run(0, 4, 6)],  # so is record 4 as a first
        [Run(0, 4, 5)],
    ],
)
def test_a_journal_of_another_topic_is_noticed_before_its_step_is_handed_out(journals, runs):
    topic = Topic()
    topic.append(0, b"a", b"b", b"c")
    topic.append(0, b"d", b"e", gap=2)
    journal = journaled(journals, runs)
    source = fresh(topic)
    worker = JournaledSource(source, journal, 0, source.next_offsets())

    with pytest.raises(JournalMismatch, match="step 1"):
        worker.take(100, 0)


# --- any sequence of takes, crashes and checkpoints ---


class Worker:
    """One process: what it has handed out is its state, kept in memory until a checkpoint."""

    def __init__(self, folder, topic, saved):
        self.journal = Journal(folder)
        self.source = FakeSource(topic)
        self.source.seek(saved.offsets)
        self.applied = list(saved.applied)
        offsets = self.source.next_offsets()
        self.stream = JournaledSource(self.source, self.journal, saved.step, offsets)


class Saved:
    """A checkpoint."""

    def __init__(self, step, offsets, applied):
        self.step, self.offsets, self.applied = step, offsets, applied


class CrashingWorker(RuleBasedStateMachine):
    """Every record ends in the saved state exactly once, and a step made again is the step as it was."""

    PARTITIONS = 3
    arrivals = st.lists(st.tuples(st.integers(0, PARTITIONS - 1), st.integers(1, 6)), min_size=1, max_size=5)

    @initialize()
    def start(self):
        self.folder = Path(mkdtemp())
        self.topic = Topic(self.PARTITIONS)
        self.kept = [Saved(0, dict.fromkeys(range(self.PARTITIONS), 0), [])]
        self.cuts: dict[int, list[tuple[int, int]]] = {}
        self.restart()

    def restart(self):
        self.worker = Worker(self.folder / "journal", self.topic, self.kept[-1])
        self.worker.journal.start_segment(self.kept[0].step)

    @rule(partition=st.integers(0, PARTITIONS - 1), count=st.integers(1, 8), gap=st.integers(0, 2))
    def produce(self, partition, count, gap):
        self.topic.append(partition, *[b"x"] * count, gap=gap)

    @rule(arrivals=arrivals, max_records=st.integers(1, 12))
    def take(self, arrivals, max_records):
        self.worker.source.arrivals = arrivals
        self._learn(self.worker.stream.take(max_records, 0))

    def _learn(self, records):
        if not records:
            return
        step, cut = self.worker.stream.step, places(records)
        assert self.cuts.setdefault(step, cut) == cut, f"step {step} was made from other records before"
        self.worker.applied += cut

    @rule()
    def save(self):
        stream = self.worker.stream
        self.kept = [*self.kept, Saved(stream.step, stream.next_offsets(), list(self.worker.applied))][-3:]
        self.worker.journal.start_segment(self.kept[0].step)

    @rule()
    def crash(self):
        self.worker.journal.close()
        self.restart()

    @rule(arrivals=arrivals, max_records=st.integers(1, 12), length=st.integers(0, 60))
    def crash_while_a_step_is_journaled(self, arrivals, max_records, length):
        """After the take, with so many bytes of the line written: the step was never used."""
        self.worker.source.arrivals = arrivals
        stream = self.worker.stream
        if not stream.is_repeating and (records := stream._fresh(max_records, 0)):
            file = self.worker.journal._path
            whole = file.read_bytes()
            line = whole.splitlines(keepends=True)[-1]
            os.truncate(file, len(whole) - len(line) + min(length, len(line)))
            if length >= len(line):  # it is on the disk: this step will be made
                self.cuts[stream.step] = places(records)
        self.crash()

    @precondition(lambda self: len(self.kept) > 1)
    @rule()
    def crash_and_the_newest_checkpoint_is_damaged(self):
        self.kept.pop()
        self.crash()

    def teardown(self):
        if not hasattr(self, "worker"):
            return
        self.crash()
        self.worker.source.arrivals = None
        while records := self.worker.stream.take(5, 0):
            self._learn(records)
        assert sorted(self.worker.applied) == sorted(everything_in(self.topic))
        assert self.worker.stream.next_offsets() == {
            partition: self.topic.extents[partition].end for partition in self.topic.records
        }
        self.worker.journal.close()
        shutil.rmtree(self.folder)


TestAnySequence = CrashingWorker.TestCase
TestAnySequence.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)


def test_the_layout_of_a_line_is_a_checksum_and_json(journals):
    journal = started(journals(), 912)
    (file,) = journal.folder.iterdir()

    checksum, _, body = file.read_bytes().rstrip(b"\n").partition(b" ")

    assert json.loads(body) == [912, [[0, 912, 913]]]
    assert int(checksum, 16) == zlib.crc32(body)


def test_with_a_writer_the_disk_is_waited_for_before_the_lists_and_not_before_the_learning(journals, monkeypatch):
    topic = Topic()
    topic.append(0, b"a", b"b")
    journal, may_write = journals(), threading.Event()
    journal.start_segment(0)
    append = journal.append
    monkeypatch.setattr(journal, "append", lambda *step, **more: (may_write.wait(10), append(*step, **more)))
    source = fresh(topic)

    with ThreadPoolExecutor(1) as writer:
        worker = JournaledSource(source, journal, 0, source.next_offsets(), writer=writer)
        taken = worker.take(1, 0)
        before = journal.steps_after(0)
        may_write.set()
        worker.wait_until_journaled()

        assert places(taken) == [(0, 0)]
        assert before == []
        assert journal.steps_after(0) == [Entry(1, [Run(0, 0, 1)])]


def test_what_the_disk_refuses_is_raised_before_the_lists(journals, monkeypatch):
    topic = Topic()
    topic.append(0, b"a")
    journal = journals()
    journal.start_segment(0)
    monkeypatch.setattr(journal, "append", lambda *_step, **_more: (_ for _ in ()).throw(OSError("the disk is full")))
    source = fresh(topic)

    with ThreadPoolExecutor(1) as writer:
        worker = JournaledSource(source, journal, 0, source.next_offsets(), writer=writer)
        worker.take(1, 0)

        with pytest.raises(OSError, match="the disk is full"):
            worker.wait_until_journaled()
