"""A save: everything that was published is acknowledged first, then it is written, then offsets are committed."""

import itertools
import math
from contextlib import nullcontext

import pytest
from faulty_disk import SimulatedCrash
from progress_cases import clicks, twenty_clicks, workers_in
from stream_fakes import Topic, click
from worker_fakes import Held, InTurn

from consumer.checkpoint import Counts, read_manifest
from consumer.offsets import TopicMadeAnew
from consumer.precopy import CopyMemory, Precopies
from consumer.publish import DeliveryFailed
from model.state import state_digest
from producer.events import Forget, Rating

pytestmark = pytest.mark.usefixtures("quick_disk")


@pytest.fixture
def start(tmp_path):
    """A function that starts a worker on this test's folder; the one before it ends."""
    yield from workers_in(tmp_path / "state")


@pytest.fixture
def topic():
    return twenty_clicks()


def test_a_save_waits_for_acknowledgements_then_writes_then_commits(start, topic):
    worker = start(topic)
    worker.run(batch_size=4, stopping=lambda: worker.stream.step == 2)

    assert worker.effects[-4:] == ["flush", "prepare", "keep", "commit_soon"]
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


def test_what_was_learned_of_a_topic_made_anew_is_not_saved(start, topic):
    topic.topic_id = "old"
    worker = start(topic)
    worker.run(until={0: 4}, batch_size=4)
    before = worker.progress.saved
    topic.topic_id = "new"

    with pytest.raises(TopicMadeAnew, match="its id was old and is new now"):
        worker.run()

    assert worker.progress.saved == before == worker.store.newest()[0]
    assert worker.source.group == {0: 4, 1: 0}


def test_a_topic_whose_id_was_not_told_at_the_start_is_compared_with_the_saved_one(start, topic):
    topic.topic_id = "old"
    start(topic).run(until={0: 4}, batch_size=4)
    topic.topic_id = None
    worker = start(topic)
    topic.topic_id = "new"

    with pytest.raises(TopicMadeAnew):
        worker.run()


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


@pytest.mark.parametrize("is_over", [False, True], ids=["while it idles", "at its end"])
def test_what_is_no_record_behind_the_last_event_is_saved_and_may_leave_the_topic(start, topic, is_over):
    worker = start(topic, every_seconds=10)
    worker.run()
    topic.end_with_a_marker(1)
    takes = itertools.count()

    def stopping():
        worker.clock.seconds += 6
        return next(takes) == (1 if is_over else 4)

    if not is_over:
        worker.failing["flush"] = SimulatedCrash()
    with nullcontext() if is_over else pytest.raises(SimulatedCrash):
        worker.run(stopping=stopping, until={0: 1_000})
    topic.drop_before(1, 9)

    again = start(topic)

    assert again.stream.next_offsets() == {0: 12, 1: 9}
    assert again.progress.counts == Counts(learned=20)
    assert again.stream.step == worker.stream.step, "one step of no records, and a checkpoint of it"
    assert [len(batch.taken) for batch in worker.observer.batches] == [20, 0]


def test_a_save_is_due_when_its_time_has_come_and_not_again_right_after(start, topic):
    worker = start(topic, every_seconds=30)
    worker.clock.seconds = 29.9
    early = worker.progress.due()
    worker.clock.seconds = 30
    due = worker.progress.due()
    worker.progress.save(worker.publisher)

    assert (early, due, worker.progress.due()) == (False, True, False)


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


def test_a_topic_made_anew_before_a_save_began_ends_the_loop_when_it_is_written(start, topic):
    topic.topic_id = "old"
    worker, _ = begun(start, topic)
    topic.topic_id = "new"
    worker.executor.do_next()

    with pytest.raises(TopicMadeAnew):
        worker.run_steps(1)

    assert worker.store.newest()[0].step == 0


def test_room_for_the_copy_gets_its_memory_beside_the_loop_before_anything_is_copied(start, topic, monkeypatch):
    monkeypatch.setattr(CopyMemory, "has_empty", property(lambda _: True))
    worker = start(topic, every_seconds=30, executor=Held())
    monkeypatch.setattr(CopyMemory, "populate", lambda _: worker.effects.append("populate"))
    worker.run_steps(1)
    worker.clock.seconds += 30
    worker.run_steps(1)
    before = worker.effects.copy()
    worker.run_steps(1)  # not waited for

    worker.executor.do_next()
    worker.run_steps(1)
    for _ in range(2):
        worker.executor.do_next()
        worker.run_steps(0)

    assert not {"populate", "mark"} & set(before)
    assert [effect for effect in worker.effects if effect in ("populate", "mark", "keep")] == [
        "populate",
        "mark",
        "keep",
    ]
    assert worker.store.newest()[0].step == 4


def test_a_last_save_waits_for_no_memory(start, topic, monkeypatch):
    monkeypatch.setattr(CopyMemory, "has_empty", property(lambda _: True))
    worker = start(topic, every_seconds=30, executor=Held())
    worker.run_steps(1)
    worker.clock.seconds += 30
    worker.run_steps(1)

    worker.progress.save(worker.publisher)

    assert worker.store.newest()[0].step == 2


def test_a_state_that_is_copied_a_row_at_a_time_while_users_come_and_go_is_that_of_one_moment(start):
    topic = Topic()
    topic.append(0, *[click(f"still {number}", f"i{number % 5}") for number in range(200)])
    for round_number in range(120):
        clicks(topic, 4 * round_number, 4 * round_number + 4)
        topic.append(0, click(f"new {round_number}", "i1"), Rating(user_id="u1", item_id="i2", rating=4, timestamp=1))
        topic.append(0, *[Forget(user_id=f"new {round_number - 2}", timestamp=1)] * (round_number % 3))
    worker = start(topic, every_seconds=30, executor=Held())
    worker.progress._precopies = Precopies(worker.progress._memory, worker.progress._growing_parts(), piece_bytes=1)
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


def test_a_disk_that_refuses_stops_the_loop_also_where_the_broker_answers_nothing(start, topic):
    worker = start(topic, every_seconds=30, executor=Held())
    worker.publisher.is_away = True
    worker.run_steps(2)
    worker.clock.seconds += 30
    worker.run_steps(0)
    worker.failing["prepare"] = OSError("No space left on device")
    worker.executor.do_next()

    with pytest.raises(OSError, match="No space"):
        worker.run_steps(1)


def test_the_save_at_the_end_comes_after_the_one_under_way(start, topic):
    worker, _ = begun(start, topic)
    worker.run_steps(1)
    executor, worker.progress._executor = worker.executor, InTurn()
    executor.do_next()

    worker.progress.save(worker.publisher)

    assert [read_manifest(path).step for path in worker.store.paths()] == [3, 2, 0]
    assert worker.effects[-6:] == ["flush", "keep", "commit_soon", "prepare", "keep", "commit_soon"]
    assert worker.source.group == {0: 12, 1: 0}


def test_a_save_that_has_nothing_new_to_save_is_done_at_once(start, topic):
    worker = start(topic, every_seconds=30)
    worker.run()
    worker.clock.seconds += 30

    assert worker.progress.advance(worker.publisher)
    assert worker.effects.count("keep") == 1


def test_the_pause_is_what_the_loop_waited_and_not_what_the_disk_took(start, topic):
    worker = start(topic, every_seconds=30, executor=Held())
    worker.run_steps(2)
    worker.clock.seconds += 30
    parts = worker.learner.parts

    def slow_parts():
        worker.clock.seconds += 0.5
        return parts()

    worker.learner.parts = slow_parts
    worker.run_steps(0)
    worker.clock.seconds += 4
    for _ in range(2):
        worker.executor.do_next()
        worker.run_steps(0)

    assert worker.store.newest()[0].step == 2
    assert worker.progress.pause_seconds == 0.5
    assert worker.progress.save_seconds == 4.5

    worker.clock.seconds += 30
    assert worker.progress.advance(worker.publisher), "nothing new: the newest save is the one before"
    assert worker.progress.pause_seconds == 0.5


def test_before_the_first_save_nobody_knows_how_long_one_takes(start, topic):
    worker = start(topic, every_seconds=30)
    worker.clock.seconds += 30

    assert worker.progress.advance(worker.publisher), "nothing new"
    assert math.isnan(worker.progress.save_seconds)
    assert math.isnan(worker.progress.pause_seconds)


def test_counts_add_up(start, topic):
    progress = start(topic).progress

    progress.count(Counts(1, 2, 3))
    progress.count(Counts(10, 0, 5))

    assert progress.counts == Counts(11, 2, 8)
