"""What was saved is restored, with the journal behind it; where that cannot be done honestly, a person is asked."""

import shutil

import pytest
from progress_cases import clicks, crash, places_of, twenty_clicks, workers_in
from stream_fakes import Topic, click, places
from structlog.testing import capture_logs
from worker_fakes import SMALL

from consumer.checkpoint import STATE_FILE, CheckpointDamaged, CheckpointError, Counts
from consumer.journal import JournalMismatch
from consumer.offsets import CheckpointLost, OffsetsOutOfRetention, Reset, TopicMadeAnew
from model.settings import LearnerSettings
from model.state import state_digest

pytestmark = pytest.mark.usefixtures("quick_disk")


@pytest.fixture
def start(tmp_path):
    """A function that starts a worker on this test's folder; the one before it ends."""
    yield from workers_in(tmp_path / "state")


@pytest.fixture
def topic():
    return twenty_clicks()


def test_a_first_start_is_from_the_first_record_and_is_saved_at_once(start, topic):
    topic.drop_before(1, 3)

    worker = start(topic)

    manifest, _ = worker.store.newest()
    assert worker.stream.next_offsets() == {0: 0, 1: 3}
    assert (manifest.step, manifest.offsets, manifest.counts) == (0, {"events": {0: 0, 1: 3}}, Counts())
    assert worker.progress.saved == manifest
    assert worker.source.group == {}, "nothing is done yet, so nothing is committed"


def test_a_restart_goes_on_behind_the_checkpoint(start, topic):
    start(topic).run()
    clicks(topic, 20, 23)

    worker = start(topic)
    worker.run()

    assert places_of(worker) == [(0, 12), (0, 13), (0, 14)]
    assert worker.progress.counts == Counts(learned=23)
    assert worker.progress.saved.epoch == 2


def test_all_that_the_worker_knows_is_restored(start, topic):
    before = start(topic)
    before.run()
    state, lists, ids = before.learner.state(), before.last_lists.state(), before.seen_ids.state()

    worker = start(topic)

    assert state_digest(worker.learner.state()) == state_digest(state) == worker.progress.saved.state_sha256
    assert worker.learner.version == before.learner.version
    assert_same(worker.last_lists.state(), lists)
    assert_same(worker.seen_ids.state(), ids)
    assert worker.stream.step == before.stream.step


def assert_same(one, other):
    assert {name: array.tolist() for name, array in one.items()} == {
        name: array.tolist() for name, array in other.items()
    }


def test_a_duplicate_is_recognised_and_a_list_found_unchanged_over_a_restart(start):
    topic = Topic()
    topic.append(0, click("u", "a", event_id="1"), click("v", "b"))
    start(topic).run()
    topic.append(0, click("u", "c", event_id="1"), click("u", "a"))

    worker = start(topic)
    worker.run()

    assert worker.progress.counts == Counts(learned=3, duplicates=1)
    assert worker.publisher.lists == []
    assert worker.observer.written[0].unchanged == 1


def test_steps_since_the_checkpoint_are_repeated_as_they_were_cut(start, topic):
    crashed = start(topic)
    crash(crashed, batch_size=3)

    worker = start(topic)
    assert worker.stream.steps_to_repeat == 7
    worker.run(batch_size=100)

    assert [places(batch.taken) for batch in worker.observer.batches] == [
        places(batch.taken) for batch in crashed.observer.batches
    ]
    assert worker.messages() == crashed.messages()
    assert state_digest(worker.learner.state()) == state_digest(crashed.learner.state())


def test_a_save_in_the_middle_of_the_repetition_keeps_the_steps_still_to_come(start, topic):
    crashed = start(topic)
    crash(crashed, batch_size=2)

    for _ in range(4):  # more than the checkpoints that are kept
        worker = start(topic)
        takes = iter([False, True])
        worker.run(stopping=lambda takes=takes: next(takes))
        worker.close()

    worker = start(topic)
    assert worker.stream.step == 4
    worker.run()
    assert state_digest(worker.learner.state()) == state_digest(crashed.learner.state())


def test_a_damaged_newest_checkpoint_is_told_and_all_since_the_one_before_is_made_again(start, topic):
    first = start(topic)
    first.run(batch_size=3, until={0: 6})
    first.run(batch_size=3, until={0: 12, 1: 2})
    digest, step = first.progress.saved.state_sha256, first.progress.saved.step
    (next(first.store.paths()) / STATE_FILE).write_bytes(b"gone")

    with capture_logs() as logs:
        worker = start(topic)
    assert worker.stream.step == 2
    worker.run(stopping=lambda: worker.stream.step == step)

    assert [log["log_level"] for log in logs].count("error") == 1
    assert worker.progress.saved.state_sha256 == digest
    assert worker.progress.saved.counts == first.progress.counts


def test_a_crash_while_the_checkpoint_before_is_in_use_loses_nothing_either(start, topic):
    first = start(topic)
    first.run(batch_size=3, until={0: 6})
    first.run(batch_size=3, until={0: 12})
    shutil.rmtree(next(first.store.paths()))

    second = start(topic)
    crash(second, "append")
    third = start(topic)
    third.run()

    assert third.stream.steps_to_repeat == 2
    assert third.progress.counts == Counts(learned=20)


def test_where_fewer_checkpoints_are_to_be_kept_than_there_are_the_start_makes_room_before_it_saves(start, topic):
    first = start(topic)
    for end in (3, 6, 9):
        first.run(batch_size=3, until={0: end})

    worker = start(topic, kept=1)

    assert [path.name for path in worker.store.paths()] == ["step-000000000003-epoch-000001"]
    assert places(worker.stream.take(100, 0))[0] == (0, 9)


# --- where a person has to choose ---


def test_committed_offsets_without_a_checkpoint_refuse_the_start(start, topic):
    with pytest.raises(CheckpointLost):
        start(topic, group={0: 4})


@pytest.mark.parametrize(
    ("reset", "offsets"),
    [(Reset.EARLIEST, {0: 0, 1: 0}), (Reset.LATEST, {0: 12, 1: 8}), (Reset.COMMITTED, {0: 4, 1: 0})],
)
def test_where_a_person_chose_to_start_is_saved_so_that_a_crash_does_not_undo_the_choice(start, topic, reset, offsets):
    start(topic, group={0: 4}, reset=reset)
    clicks(topic, 20, 23)

    worker = start(topic)

    assert worker.stream.next_offsets() == offsets
    assert worker.progress.saved.offsets == {"events": offsets}


def test_offsets_below_the_retention_refuse_the_start_and_with_a_reset_what_was_learned_stays(start, topic):
    first = start(topic)
    first.run(until={0: 12, 1: 8}, batch_size=5)
    topic.append(0, *[click("u1", "i9")] * 4)
    topic.drop_before(0, 14)
    with pytest.raises(OffsetsOutOfRetention):
        start(topic)

    start(topic, reset=Reset.EARLIEST)
    worker = start(topic)
    worker.run()

    assert places_of(worker) == [(0, 14), (0, 15)]
    assert worker.progress.counts == Counts(learned=22)


def test_a_reset_that_moves_the_offsets_forgets_the_journaled_steps(start, topic):
    crashed = start(topic)
    crash(crashed, batch_size=3)
    topic.drop_before(0, 5)

    worker = start(topic, reset=Reset.EARLIEST)
    assert worker.stream.steps_to_repeat == 0
    worker.run()

    assert places_of(worker) == [*((0, n) for n in range(5, 12)), *((1, n) for n in range(8))]
    assert start(topic).stream.steps_to_repeat == 0


def test_a_reset_that_moves_nothing_leaves_the_journal_alone(start, topic):
    crash(start(topic), batch_size=3)

    worker = start(topic, reset=Reset.LATEST)

    assert worker.stream.steps_to_repeat == 7
    assert worker.stream.next_offsets() == {0: 0, 1: 0}


def test_a_journal_without_any_checkpoint_is_not_followed(start, topic):
    crashed = start(topic)
    crash(crashed, batch_size=3)
    shutil.rmtree(crashed.store.folder / "checkpoints")

    worker = start(topic)

    assert worker.stream.steps_to_repeat == 0
    worker.run()
    assert worker.progress.counts == Counts(learned=20)


def test_a_checkpoint_of_another_topic_refuses_the_start(start, topic):
    start(topic).run()
    other = Topic(2, name="other")
    clicks(other, 0, 30)

    with pytest.raises(CheckpointError, match=r"learned from events, and the events topic is other now"):
        start(other)


def test_a_topic_made_anew_that_is_shorter_than_the_journal_refuses_the_start(start, topic):
    crash(start(topic), batch_size=3)
    anew = Topic(2)
    clicks(anew, 0, 5)

    with pytest.raises(JournalMismatch, match="the topic ends at 5"):
        start(anew)


def test_a_topic_made_anew_that_is_as_long_refuses_the_start_until_a_person_accepts_it(start, topic):
    topic.topic_id = "old"
    first = start(topic)
    first.run(until={0: 5})
    crash(first, batch_size=3)
    anew = Topic(2)
    clicks(anew, 100, 120)
    clicks(anew, 120, 140, partition=1)
    anew.topic_id = "new"
    with pytest.raises(TopicMadeAnew):
        start(anew)

    start(anew, reset=Reset.EARLIEST)
    worker = start(anew)
    steps_to_repeat = worker.stream.steps_to_repeat
    worker.run()

    assert steps_to_repeat == 0
    assert worker.progress.counts == Counts(learned=60), "what was learned stays"
    assert worker.progress.saved.topic_ids == {"events": "new"}


def test_the_id_of_a_topic_is_kept_where_it_is_not_told_and_taken_up_where_it_was_not_known(start, topic):
    found = []
    for told in (None, "an id", None):
        topic.topic_id = told
        clicks(topic, 20, 21)
        worker = start(topic)
        worker.run()
        found.append(worker.progress.saved.topic_ids)

    assert found == [{}, {"events": "an id"}, {"events": "an id"}]


def test_damaged_checkpoints_only_refuse_the_start(start, topic):
    worker = start(topic)
    worker.run()
    for path in worker.store.paths():
        (path / STATE_FILE).unlink()

    with pytest.raises(CheckpointDamaged, match="none of the 2"):
        start(topic)


def test_settings_that_do_not_fit_the_saved_model_refuse_the_start(start, topic):
    start(topic).run()

    with pytest.raises(ValueError, match="seed"):
        start(topic, settings=LearnerSettings(**{**vars(SMALL), "seed": 1}))


def test_a_partition_added_to_the_topic_is_read_from_its_first_record(start, topic):
    start(topic).run()
    grown = Topic(3)
    grown.records |= topic.records
    grown.extents |= topic.extents
    clicks(grown, 30, 32, partition=2)

    worker = start(grown)
    worker.run()

    assert places_of(worker) == [(2, 0), (2, 1)]
    assert worker.progress.counts == Counts(learned=22)
