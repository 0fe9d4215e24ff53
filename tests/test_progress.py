"""What was saved is restored, with the journal behind it; where that cannot be done honestly, a person is asked."""

import shutil

import pytest
from faulty_disk import SimulatedCrash, without_waiting
from stream_fakes import Topic, click, places
from structlog.testing import capture_logs
from worker_fakes import SMALL, FakeWorker, Held, InTurn

from consumer.checkpoint import STATE_FILE, CheckpointDamaged, CheckpointError, Counts, read_manifest
from consumer.journal import JournalMismatch
from consumer.offsets import CheckpointLost, OffsetsOutOfRetention, Reset
from consumer.precopy import Precopy
from consumer.publish import DeliveryFailed
from consumer.source import CommitFailed
from model.settings import LearnerSettings
from model.state import state_digest
from producer.events import Forget, Rating


@pytest.fixture(autouse=True)
def quick_disk(monkeypatch):
    without_waiting(monkeypatch)


@pytest.fixture
def start(tmp_path):
    """A function that starts a worker on this test's folder; the one before it ends."""
    started = []

    def run(topic, folder=tmp_path / "state", **named):
        for one in started:
            one.close()
        started.append(FakeWorker(folder, topic, **named))
        return started[-1]

    yield run

    for one in started:
        one.close()


def clicks(topic, first, end, partition=0):
    """Add clicks number `first` to `end - 1`, of four users on five items."""
    topic.append(partition, *[click(f"u{n % 4}", f"i{n % 5}", event_id=f"e{n}") for n in range(first, end)])


@pytest.fixture
def topic():
    topic = Topic(2)
    clicks(topic, 0, 12)
    clicks(topic, 12, 20, partition=1)
    return topic


def crash(worker, effect="flush", **named):
    """Let the worker run into its end at this effect."""
    worker.failing[effect] = SimulatedCrash()
    with pytest.raises(SimulatedCrash):
        worker.run(**named)


def places_of(worker):
    return [place for batch in worker.observer.batches for place in places(batch.taken)]


# --- a start ---


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


# --- a save ---


def test_a_save_waits_for_acknowledgements_then_writes_then_commits(start, topic):
    worker = start(topic)
    worker.run(batch_size=4, stopping=lambda: worker.stream.step == 2)

    assert worker.effects[-4:] == ["flush", "prepare", "keep", "commit"]
    manifest, _ = worker.store.newest()
    assert (manifest.step, manifest.model_version, manifest.epoch) == (2, 2, 1)
    assert manifest.offsets == {"events": {0: 8, 1: 0}}
    assert worker.source.group == {0: 8, 1: 0}
    assert manifest.settings == {"k": 3}


def test_an_acknowledgement_that_is_missing_saves_nothing(start, topic):
    worker = start(topic)
    worker.failing["flush"] = DeliveryFailed("1 record was not acknowledged")

    with pytest.raises(DeliveryFailed):
        worker.progress.save(worker.publisher)

    assert worker.effects == ["flush"]


def test_a_full_disk_commits_nothing_and_the_checkpoint_before_stays_the_newest(start, topic):
    worker = start(topic)
    worker.run(until={0: 4}, batch_size=4)
    before = worker.progress.saved
    worker.failing["keep"] = OSError("No space left on device")

    with pytest.raises(OSError, match="No space"):
        worker.run()

    assert worker.progress.saved == before == worker.store.newest()[0]
    assert worker.source.group == {0: 4, 1: 0}


def test_a_failed_commit_is_told_and_stops_nothing(start, topic):
    worker = start(topic)
    worker.failing["commit"] = CommitFailed("the coordinator is away")

    with capture_logs() as logs:
        worker.run()

    assert worker.store.newest()[0].counts == Counts(learned=20)
    assert [log["why"] for log in logs if log["log_level"] == "warning"] == ["the coordinator is away"]


def test_nothing_new_is_not_written_again(start, topic):
    worker = start(topic)
    worker.run()
    saved = worker.progress.saved

    assert worker.progress.save(worker.publisher) == saved
    assert worker.effects.count("keep") == 1


def test_the_first_save_of_a_run_is_written_under_its_own_epoch_even_without_new_events(start, topic):
    start(topic).run()

    worker = start(topic)
    worker.run()

    assert worker.progress.saved.epoch == 2
    assert worker.progress.saved.step == 1
    assert worker.progress.counts == Counts(learned=20)


def test_a_save_is_due_when_its_time_has_come_and_not_again_right_after(start, topic):
    worker = start(topic, every_seconds=30)
    worker.clock.seconds = 29.9
    early = worker.progress.due()
    worker.clock.seconds = 30
    due = worker.progress.due()
    worker.progress.save(worker.publisher)

    assert (early, due, worker.progress.due()) == (False, True, False)
    assert worker.progress.seconds_since_save() == 0


# --- a save while the loop goes on ---


def begun(start, topic, **named):
    """A worker that has made two steps and begun a save, and what its state was then."""
    worker = start(topic, every_seconds=30, executor=Held(), **named)
    worker.run_steps(2)
    worker.clock.seconds += 30
    state = state_digest(worker.learner.state())
    worker.run_steps(0)
    assert worker.effects[-1] == "mark"
    return worker, state


def test_steps_go_on_while_a_save_is_under_way_and_what_is_saved_is_as_it_was_at_its_beginning(start, topic):
    worker, state = begun(start, topic)
    lists, counts = worker.last_lists.state(), worker.progress.counts

    worker.run_steps(1)
    worker.executor.do_next()  # written
    worker.run_steps(1)
    worker.executor.do_next()  # named
    before = worker.source.group.copy()
    worker.run_steps(1)

    assert before == {}
    assert worker.source.group == {0: 8, 1: 0}, "committed is what is saved, not what is done by now"
    manifest, tensors = worker.store.newest()
    assert (manifest.step, manifest.counts, manifest.state_sha256) == (2, counts, state)
    model = {name.removeprefix("model."): value for name, value in tensors.items() if name.startswith("model.")}
    assert state_digest(model) == state != state_digest(worker.learner.state())
    assert tensors["lists.codes"].tolist() == lists["codes"].tolist() != worker.last_lists.state()["codes"].tolist()
    assert worker.progress.saved == manifest
    assert worker.observer.saves == 1


def test_a_state_that_is_copied_a_row_at_a_time_while_users_come_and_go_is_that_of_one_moment(start):
    topic = Topic()
    topic.append(0, *[click(f"still {number}", f"i{number % 5}") for number in range(200)])
    for round_number in range(40):
        clicks(topic, 4 * round_number, 4 * round_number + 4)
        topic.append(0, click(f"new {round_number}", "i1"), Rating(user_id="u1", item_id="i2", rating=4, timestamp=1))
        topic.append(0, *[Forget(user_id=f"new {round_number - 2}", timestamp=1)] * (round_number % 3))
    worker = start(topic, every_seconds=30, executor=Held())
    worker.progress._precopy = Precopy(piece_bytes=1)
    worker.run_steps(1, batch_size=200)
    worker.run_steps(6, batch_size=3)
    worker.clock.seconds += 30
    steps = 0
    while "mark" not in worker.effects:
        worker.run_steps(1, batch_size=3)
        steps += 1
    state, step = state_digest(worker.learner.state()), worker.stream.step
    for _ in range(2):
        worker.executor.do_next()
        worker.run_steps(1, batch_size=3)

    manifest, _ = worker.store.newest()
    assert steps > 10
    assert (manifest.step, manifest.state_sha256) == (step, state)
    assert state_digest(worker.learner.state()) != state


def test_a_worker_that_ends_while_a_save_is_under_way_goes_on_from_the_one_before_it(start, topic):
    worker, _ = begun(start, topic)
    worker.run_steps(1)
    worker.executor.do_next()  # it is on the disk, but has no name
    journaled = worker.stream.step

    following = start(topic)

    assert following.progress.saved.step == 0
    assert following.stream.steps_to_repeat == journaled == 3


def test_a_save_is_not_kept_before_all_that_was_published_before_it_is_acknowledged(start, topic):
    worker = start(topic, every_seconds=30, executor=Held())
    worker.publisher.is_away = True
    worker.run_steps(2)
    worker.clock.seconds += 30
    worker.run_steps(0)
    worker.executor.do_next()

    due_before = worker.progress.due()
    worker.run_steps(1)
    asked_before = len(worker.executor.pieces)
    worker.publisher.is_away = False
    worker.run_steps(1)

    assert (due_before, asked_before) == (False, 0)
    assert len(worker.executor.pieces) == 1, "it may have its name now"
    assert worker.store.newest()[0].step == 0


def test_what_is_published_after_the_copy_need_not_be_acknowledged(start, topic):
    worker, _ = begun(start, topic)
    worker.publisher.is_away = True
    worker.run_steps(1)
    worker.executor.do_next()

    worker.run_steps(0)
    worker.executor.do_next()
    worker.run_steps(0)

    assert worker.store.newest()[0].step == 2


@pytest.mark.parametrize("effect", ["prepare", "keep"])
def test_a_disk_that_refuses_stops_the_loop_and_nothing_is_committed(start, topic, effect):
    worker, _ = begun(start, topic)
    worker.failing[effect] = OSError("No space left on device")
    for _ in range(["prepare", "keep"].index(effect)):
        worker.executor.do_next()
        worker.run_steps(0)
    worker.executor.do_next()

    with pytest.raises(OSError, match="No space"):
        worker.run_steps(1)

    assert worker.source.group == {}
    assert worker.store.newest()[0].step == 0


def test_the_save_at_the_end_comes_after_the_one_under_way(start, topic):
    worker, _ = begun(start, topic)
    worker.run_steps(1)
    executor, worker.progress._executor = worker.executor, InTurn()
    executor.do_next()

    worker.progress.save(worker.publisher)

    assert [read_manifest(path).step for path in worker.store.paths()] == [3, 2, 0]
    assert worker.effects[-6:] == ["flush", "keep", "commit", "prepare", "keep", "commit"]
    assert worker.source.group == {0: 12, 1: 0}


def test_a_save_that_has_nothing_new_to_save_is_done_at_once(start, topic):
    worker = start(topic, every_seconds=30)
    worker.run()
    worker.clock.seconds += 30

    assert worker.progress.advance(worker.publisher)
    assert worker.effects.count("keep") == 1
    assert worker.progress.seconds_since_save() == 0


def test_the_pause_is_what_the_loop_waited_and_not_what_the_disk_took(start, topic):
    worker = start(topic, every_seconds=30, executor=Held())
    worker.run_steps(2)
    worker.clock.seconds += 30
    state = worker.learner.state

    def slow_state(copied):
        worker.clock.seconds += 0.5
        return state(copied)

    worker.learner.state = slow_state
    worker.run_steps(0)
    worker.clock.seconds += 4
    for _ in range(2):
        worker.executor.do_next()
        worker.run_steps(0)

    assert worker.store.newest()[0].step == 2
    assert worker.progress.pause_seconds == 0.5
    assert worker.progress.save_seconds == 4.5


def test_counts_add_up(start, topic):
    progress = start(topic).progress

    progress.count(Counts(1, 2, 3))
    progress.count(Counts(10, 0, 5))

    assert progress.counts == Counts(11, 2, 8)
