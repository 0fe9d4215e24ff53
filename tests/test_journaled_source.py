"""Steps are handed out again exactly as they were cut, whatever takes, crashes and checkpoints came between."""

import os
import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import mkdtemp

import pytest
from faulty_disk import FaultyDisk, disk_full
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule
from journal_cases import journals_in, started
from stream_fakes import FakeSource, Record, Topic, places

from consumer.journal import Entry, Journal, JournaledSource, JournalMismatch, Run, runs_of
from consumer.records import Taken

pytestmark = pytest.mark.usefixtures("quick_disk")


@pytest.fixture
def journals(tmp_path):
    """A function that opens the journal of this test's folder anew, as the next run does."""
    yield from journals_in(tmp_path / "journal")


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


def all_steps_of(worker):
    """The same, steps without records too."""
    steps = []
    while (taken := worker.take(1, 0)) is not None:
        steps.append((worker.step, places(taken)))
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


def test_what_is_no_record_counts_as_handed_out_once_it_was_read_over(topic, journals):
    topic.end_with_a_marker(1)
    run_of(topic, journals(), [[(0, 2)]])
    journal = journals()
    source = fresh(topic)
    worker = JournaledSource(source, journal, 0, source.next_offsets())
    journal.start_segment(0)

    source.arrivals = [(0, 4), (1, 100)]
    worker.take(100, 0)
    with_records_left_over = worker.next_offsets()
    source.arrivals = None
    all_of(worker)

    assert with_records_left_over == {0: 2, 1: 0, 2: 0}
    assert worker.next_offsets() == {0: 10, 1: 11, 2: 10}


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


@pytest.mark.parametrize(
    ("steps", "there"), [([[Run(0, 0, 4)]], "0 to 2"), ([[Run(0, 0, 3)], [Run(0, 3, 4)]], "none of them")]
)
def test_records_that_the_topic_does_not_give_any_more_are_not_waited_for(journals, steps, there):
    """They were compacted away, or belong to a transaction that was aborted and was not to be read then."""
    topic = Topic()
    topic.append(0, b"a", b"b", b"c")
    topic.end_with_a_marker(0)
    source = fresh(topic)
    worker = JournaledSource(source, journaled(journals, *steps), 0, source.next_offsets())

    with pytest.raises(JournalMismatch, match=f"the topic has {there} there"):
        all_of(worker)


# --- steps without records, for lists that waited ---


def test_a_step_without_records_is_handed_out_again_in_its_place(journals):
    topic = Topic()
    topic.append(0, b"a", b"b")
    source = fresh(topic)
    worker = JournaledSource(source, started(journals()), 0, source.next_offsets())
    worker.take(1, 0)
    worker.step_without_records(more_wait=False)
    worker.take(1, 0)
    source = fresh(topic)

    again = JournaledSource(source, journals(), 0, source.next_offsets())

    assert all_steps_of(again) == [(1, [(0, 0)]), (2, []), (3, [(0, 1)])]
    assert again.next_offsets() == {0: 2}


def test_a_step_without_records_does_not_come_between_those_that_are_repeated(journals):
    topic = Topic()
    topic.append(0, b"a")
    run_of(topic, journals(), [[(0, 1)]])
    source = fresh(topic)
    worker = JournaledSource(source, journals(), 0, source.next_offsets())

    with pytest.raises(RuntimeError, match="after those that are repeated"):
        worker.step_without_records(more_wait=False)


def test_more_is_there_where_a_full_step_leaves_records_of_the_topic_or_of_those_fetched_meanwhile(journals):
    topic = Topic()
    topic.append(0, *[b""] * 3)
    told = []
    run_of(topic, journals(), [[(0, 3)]])
    topic.append(0, *[b""] * 4)
    source = fresh(topic)

    worker = JournaledSource(
        source, started(journals()), 0, source.next_offsets(), decide=lambda more: not told.append(more)
    )
    for max_records in (100, 1, 2, 1, 2):
        worker.take(max_records, 0)

    assert told == [True, True, False]


# --- a disk that is slow, full or refuses ---


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

    PARTITIONS = 2
    MOST_PARTITIONS = 4
    partitions = st.integers(0, MOST_PARTITIONS - 1)
    arrivals = st.lists(st.tuples(partitions, st.integers(1, 6)), min_size=1, max_size=5)

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

    @precondition(lambda self: len(self.topic.records) < self.MOST_PARTITIONS)
    @rule()
    def add_a_partition(self):
        self.topic.add_partition()

    @rule(partition=partitions, count=st.integers(1, 8), gap=st.integers(0, 2))
    def produce(self, partition, count, gap):
        self.topic.append(partition % len(self.topic.records), *[b"x"] * count, gap=gap)

    def _arrive(self, arrivals):
        there = len(self.topic.records)
        self.worker.source.arrivals = [(partition % there, most) for partition, most in arrivals]

    @rule(arrivals=arrivals, max_records=st.integers(1, 12))
    def take(self, arrivals, max_records):
        self._arrive(arrivals)
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
        self._arrive(arrivals)
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
