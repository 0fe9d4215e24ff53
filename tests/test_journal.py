"""What was journaled comes back, what is torn or altered is not believed, and what is needed is kept."""

import json
import zlib

import pytest
from faulty_disk import FaultyDisk, SimulatedCrash
from journal_cases import append, journals_in, started
from structlog.testing import capture_logs

from consumer.journal import Entry, Run

pytestmark = pytest.mark.usefixtures("quick_disk")


@pytest.fixture
def journals(tmp_path):
    """A function that opens the journal of this test's folder anew, as the next run does."""
    yield from journals_in(tmp_path / "journal")


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
    closed = started(journals(), 1)
    closed.close()

    for journal in (journals(), closed):
        with pytest.raises(RuntimeError, match="start_segment"):
            journal.append(2, [])


def test_a_cleared_journal_has_no_steps_and_can_be_begun_again(journals):
    journal = started(journals(), 1, 2)

    journal.clear()

    assert segments(journal) == []
    assert numbers(started(journal, 7).steps_after(6)) == [7]


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


def test_steps_go_to_the_present_segment_until_the_journal_switches_to_the_one_that_is_ready(journals):
    journal = started(journals(), 1, 2)
    journal.prepare_segment(0)
    append(journal, 3)
    journal.switch_segment()
    append(journal, 4)

    first, second = segments(journal)
    assert [(journal.folder / name).read_bytes().count(b"\n") for name in (first, second)] == [3, 1]
    assert numbers(journals().steps_after(0)) == [1, 2, 3, 4]


def test_the_segment_that_is_written_to_stays_when_the_next_is_prepared_and_goes_when_it_is_past(journals):
    journal = started(journals())
    journal.prepare_segment(0)
    assert len(segments(journal)) == 2, "also without a step"
    journal.switch_segment()
    append(journal, 1)
    journal.prepare_segment(5)
    assert len(segments(journal)) == 2, "the first one is gone"
    journal.switch_segment()

    journal.prepare_segment(5)

    assert numbers(journals().steps_after(0)) == []
    assert len(segments(journal)) == 2


def test_a_segment_that_was_prepared_and_never_written_to_is_no_loss_and_is_dropped(journals):
    journal = started(journals(), 1)
    journal.prepare_segment(0)
    journal.prepare_segment(0)  # of a second save, where the first one failed behind it
    assert len(segments(journal)) == 2
    append(journal, 2)
    journal.close()

    again = started(journals(), 3)

    assert numbers(journals().steps_after(0)) == [1, 2, 3]
    assert len(segments(again)) == 2


def test_a_journal_switches_to_no_segment_that_is_not_ready(journals):
    journal = started(journals(), 1)

    with pytest.raises(RuntimeError, match="prepare_segment comes before"):
        journal.switch_segment()

    journal.prepare_segment(0)
    journal.switch_segment()
    with pytest.raises(RuntimeError, match="prepare_segment comes before"):
        journal.switch_segment()


def test_the_layout_of_a_line_is_a_checksum_and_json(journals):
    journal = started(journals(), 912)
    (file,) = journal.folder.iterdir()

    checksum, _, body = file.read_bytes().rstrip(b"\n").partition(b" ")

    assert json.loads(body) == [912, [[0, 912, 913]]]
    assert int(checksum, 16) == zlib.crc32(body)
