"""The order of effects, what a failure leaves behind, and that every record is counted once."""

from dataclasses import replace

import pytest
from catalogue_cases import Users, read_anew
from stream_fakes import TIME_MS, Topic, click, places
from worker_fakes import ACKNOWLEDGED_AT, FakeWorker

from consumer.lists import Written
from consumer.loop import IDLE_SECONDS
from consumer.metrics import Stage
from consumer.publish import DeliveryFailed
from producer.events import Click, Forget, Impression, Rating

pytestmark = pytest.mark.usefixtures("quick_disk")


@pytest.fixture
def start(tmp_path):
    """A function that starts a worker on this test's folder; the one before it ends."""
    started = []

    def run(topic, **named):
        for one in started:
            one.close()
        started.append(FakeWorker(tmp_path, topic, **named))
        return started[-1]

    yield run

    for one in started:
        one.close()


@pytest.fixture
def topic():
    """One partition: two users with clicks enough for lists, a record that is no event, a forget."""
    topic = Topic()
    topic.append(0, click("u", "a"), click("v", "b"), b"not JSON", click("u", "c"))
    topic.append(0, Forget(user_id="w", timestamp=TIME_MS))
    return topic


def forget(user):
    return Forget(user_id=user, timestamp=TIME_MS)


# --- the order of effects ---


def test_effects_come_in_the_order_that_is_the_guarantee(start, topic):
    worker = start(topic)

    worker.run()

    assert worker.effects == [
        "take",
        "append",  # to the journal
        "dead_letter",
        "test_then_learn",
        "forget",
        "send",
        "poll",
        "flush",
        "prepare",
        "keep",
        "commit_soon",
    ]


def test_the_stages_are_timed_in_their_order(start, topic):
    worker = start(topic)

    worker.run()

    assert worker.observer.stages == [
        Stage.TAKE,
        Stage.DECODE,
        Stage.LEARN,
        Stage.TOPK,
        Stage.PUBLISH,
        Stage.CHECKPOINT,
    ]


def test_the_observer_hears_each_batch_and_each_save(start, topic):
    worker = start(topic)

    worker.run(batch_size=3)

    first, second = worker.observer.batches
    assert places(first.taken) == [(0, 0), (0, 1), (0, 2)]
    assert places(second.taken) == [(0, 3), (0, 4)]
    assert [len(first.learned), len(first.rejects), len(first.duplicates)] == [2, 1, 0]
    assert (first.step.version, second.step.version) == (1, 2)
    assert worker.observer.written == [Written(sent=2, unchanged=0), Written(sent=0, unchanged=1)]
    assert worker.observer.saves == 1


def test_a_checkpoint_is_saved_whenever_it_is_due_and_at_the_end(start, topic):
    worker = start(topic, every_seconds=10)
    take = worker.source.take

    def slow_take(*given):
        worker.clock.seconds += 6
        return take(*given)

    worker.source.take = slow_take
    worker.run(batch_size=1)

    def takes_before(what):
        return [worker.effects[:place].count("take") for place, effect in enumerate(worker.effects) if effect == what]

    assert takes_before("prepare") == [2, 4, 5]
    assert takes_before("keep") == takes_before("commit_soon") == [3, 5, 5], "one under way is done first at the end"
    assert worker.effects[-4:] == ["flush", "prepare", "keep", "commit_soon"]


def test_nothing_that_came_is_no_step_and_answers_are_still_taken_in(start, topic):
    worker = start(topic)
    worker.source.arrivals = []
    asked = iter([False, False, True])

    worker.run(stopping=lambda: next(asked))

    assert worker.effects == ["take", "poll", "take", "poll", "flush"]
    assert worker.stream.step == 0


def waits_of(worker, takes):
    """How long each of so many takes was ready to wait for its first event."""
    waits, take = [], worker.source.take

    def noted(max_records, wait_seconds):
        waits.append(wait_seconds)
        return take(max_records, wait_seconds)

    worker.source.take = noted
    worker.run(batch_size=1, stopping=lambda: len(waits) == takes, until={0: 1_000})
    return waits


def test_an_idle_loop_waits_long_for_the_first_event(start):
    assert waits_of(start(Topic()), 3) == [IDLE_SECONDS] * 3


def test_a_loop_to_which_the_broker_owes_answers_comes_round_quickly(start, topic):
    worker = start(topic)
    worker.publisher.is_away = True

    assert waits_of(worker, 4) == [IDLE_SECONDS, 0, 0, 0]


def test_a_loop_to_which_the_broker_has_owed_answers_for_long_is_in_no_hurry(start, topic):
    worker = start(topic)
    worker.publisher.is_away = worker.publisher.is_late = True

    assert waits_of(worker, 3) == [IDLE_SECONDS] * 3


def test_a_loop_with_a_save_in_hand_comes_round_quickly(start, topic):
    worker = start(topic)
    worker.progress.due = lambda: True
    worker.progress.advance = lambda _publisher: False

    assert waits_of(worker, 3) == [0, 0, 0]


# --- what a failure leaves behind ---


def saved_state(worker):
    """(step of the newest checkpoint, committed offsets): what the next run starts from."""
    found = worker.store.newest()
    return found[0].step, found[0].offsets, worker.source.group


@pytest.mark.parametrize("effect", ["dead_letter", "send", "forget", "poll", "flush"])
def test_a_failed_delivery_saves_nothing_and_commits_nothing(start, topic, effect):
    worker = start(topic)
    worker.failing[effect] = DeliveryFailed("refused")

    with pytest.raises(DeliveryFailed):
        worker.run()

    assert "prepare" not in worker.effects
    assert "commit_soon" not in worker.effects
    assert saved_state(worker) == (0, {"events": {0: 0}}, {})


def test_a_failed_step_publishes_nothing_saves_nothing_and_commits_nothing(start, topic):
    worker = start(topic)
    worker.failing["test_then_learn"] = FloatingPointError("the loss is nan")

    with pytest.raises(FloatingPointError):
        worker.run()

    assert worker.publisher.lists == []
    assert "flush" not in worker.effects
    assert saved_state(worker) == (0, {"events": {0: 0}}, {})


@pytest.mark.parametrize("effect", ["take", "append", "prepare", "keep"])
def test_a_failed_take_journal_or_checkpoint_commits_nothing(start, topic, effect):
    worker = start(topic)
    worker.failing[effect] = OSError("refused")

    with pytest.raises(OSError, match="refused"):
        worker.run()

    assert saved_state(worker) == (0, {"events": {0: 0}}, {})
    assert (worker.publisher.lists == []) == (effect not in ("prepare", "keep"))


def test_a_failure_after_a_checkpoint_leaves_that_checkpoint(start, topic):
    worker = start(topic)
    worker.run()
    topic.append(0, click("u", "b"))

    worker.failing["send"] = DeliveryFailed("refused")
    with pytest.raises(DeliveryFailed):
        worker.run()

    assert saved_state(worker) == (1, {"events": {0: 5}}, {0: 5})


def test_the_run_after_a_failure_makes_the_same_lists_again(start, topic):
    worker = start(topic)
    worker.failing["flush"] = DeliveryFailed("refused")
    with pytest.raises(DeliveryFailed):
        worker.run(batch_size=2)
    published = worker.messages()

    following = start(topic)
    following.run(batch_size=100)

    assert following.messages() == published
    assert following.epoch == worker.epoch + 1
    assert [len(batch.taken) for batch in following.observer.batches] == [2, 2, 1]


# --- the end ---


def test_a_stop_asked_for_in_the_middle_of_a_batch_finishes_it_saves_and_ends(start, topic):
    worker = start(topic)

    worker.run(batch_size=3, stopping=lambda: "test_then_learn" in worker.effects)

    assert worker.effects[-4:] == ["flush", "prepare", "keep", "commit_soon"]
    assert worker.effects.count("take") == 1
    assert saved_state(worker) == (1, {"events": {0: 3}}, {0: 3})


def test_a_stop_before_the_first_batch_takes_nothing(start, topic):
    worker = start(topic)

    worker.run(stopping=lambda: True)

    assert worker.effects == ["flush"]


def test_the_run_ends_when_everything_below_until_is_done(start, topic):
    worker = start(topic)

    worker.run(batch_size=2, until={0: 3})

    assert saved_state(worker) == (2, {"events": {0: 4}}, {0: 4})


def test_a_run_whose_until_is_reached_already_takes_nothing(start, topic):
    start(topic).run()

    worker = start(topic)
    worker.run()

    assert "take" not in worker.effects


def test_the_run_does_not_end_while_journaled_steps_are_still_to_be_repeated(start, topic):
    worker = start(topic)
    worker.failing["flush"] = DeliveryFailed("refused")
    with pytest.raises(DeliveryFailed):
        worker.run(batch_size=2)

    following = start(topic)
    following.run(until={0: 1})

    assert following.progress.counts.learned + following.progress.counts.dead_letters == 5


# --- every record is counted once ---


def test_every_record_is_learned_or_a_duplicate_or_a_dead_letter(start):
    topic = Topic(2)
    topic.append(0, click("u", "a", event_id="1"), click("u", "b", event_id="1"), b"not JSON", None)
    topic.append(0, Rating(user_id="u", item_id="a", rating=9.0, timestamp=1), click("u", "b", event_id="2"))
    topic.append(1, Impression(user_id="u", recommendation_id="r", items=["a"], timestamp=1, event_id="1"))
    topic.append(1, forget("u"), forget("nobody"), click("u", "c", action="skip"))
    topic.append(1, Rating(user_id="v", item_id="a", rating=4.0, timestamp=1, event_id="1"), b"")

    worker = start(topic)
    worker.run(batch_size=5)

    counts = worker.store.newest()[0].counts
    assert (counts.learned, counts.duplicates, counts.dead_letters) == (6, 2, 4)
    assert counts.learned + counts.duplicates + counts.dead_letters == 12
    assert places(reject.record for reject in worker.publisher.dead_letters) == [(0, 2), (0, 3), (0, 4), (1, 5)]


def test_counts_go_on_over_restarts(start, topic):
    start(topic).run()
    topic.append(0, click("u", "b"), b"no")

    worker = start(topic)
    worker.run()

    counts = worker.progress.counts
    assert (counts.learned, counts.duplicates, counts.dead_letters) == (5, 0, 2)


def test_a_duplicate_changes_no_state_and_makes_no_list(start):
    topic = Topic()
    topic.append(0, click("u", "a", event_id="1"), click("v", "b"))
    once = start(topic)
    once.run()
    digest, published = once.progress.saved.state_sha256, len(once.publisher.lists)

    topic.append(0, click("u", "c", event_id="1"))
    once.run()

    assert once.progress.saved.state_sha256 == digest
    assert len(once.publisher.lists) == published
    assert once.progress.saved.counts.duplicates == 1


def test_a_batch_of_impressions_is_learned_without_effect(start):
    topic = Topic()
    topic.append(0, click("u", "a"))
    worker = start(topic)
    worker.run()
    digest = worker.progress.saved.state_sha256

    topic.append(0, Impression(user_id="u", recommendation_id="r", items=["a"], timestamp=1))
    worker.run()

    assert worker.progress.saved.counts.learned == 2
    assert worker.progress.saved.state_sha256 == digest
    assert (worker.progress.saved.step, worker.progress.saved.model_version) == (2, 1)
    assert len(worker.publisher.lists) == 1


# --- lists ---


def test_one_list_a_touched_user_reflects_all_of_the_users_events_in_the_batch(start):
    topic = Topic()
    topic.append(0, click("u", "a"), click("v", "b"), click("u", "c"), click("v", "a"), click("v", "d"))

    worker = start(topic)
    worker.run()

    by_user = {message.user_id: message for message in worker.publisher.lists}
    assert len(worker.publisher.lists) == 2
    assert (by_user["u"].source.offset, by_user["v"].source.offset) == (2, 4)
    assert {message.generated_at for message in worker.publisher.lists} == {TIME_MS + 4}
    assert {item.item_id for item in by_user["u"].items} == {"b", "d"}
    times = [TIME_MS, TIME_MS + 2, TIME_MS + 1, TIME_MS + 3, TIME_MS + 4]
    assert worker.fresh == [(times, [ACKNOWLEDGED_AT] * 5)]


def test_lists_of_records_without_a_time_show_the_times_of_their_events(start):
    topic = Topic()
    for number, timestamp in enumerate((5_000, 7_000, 6_000)):
        topic.append(0, Click(user_id="u", item_id=f"i{number}", timestamp=timestamp))
    topic.append(0, None)  # no event, so there is no time of its own
    topic.records[0] = [replace(record, time_ms=-1) for record in topic.records[0]]

    worker = start(topic)
    worker.run()

    (message,) = worker.publisher.lists
    assert (message.generated_at, message.source.timestamp) == (7_000, 6_000)
    assert worker.fresh == [([-1, -1, -1], [ACKNOWLEDGED_AT] * 3)]


def test_a_step_of_rejects_without_a_time_has_no_lists_and_goes_by(start):
    topic = Topic()
    topic.append(0, None)
    topic.records[0] = [replace(record, time_ms=-1) for record in topic.records[0]]

    worker = start(topic)
    worker.run()

    assert worker.publisher.lists == []
    assert worker.progress.saved.counts.dead_letters == 1


def test_a_forget_in_the_middle_of_a_batch_takes_effect_where_it_stands(start):
    topic = Topic()
    topic.append(0, click("v", "b"), click("u", "a"), click("u", "b"), forget("u"), click("u", "c"), click("w", "a"))
    topic.append(0, forget("w"))

    worker = start(topic)
    worker.run()

    assert worker.publisher.tombstones == ["u", "w"]
    by_user = {message.user_id: message for message in worker.publisher.lists}
    assert by_user.keys() == {"u", "v"}, "a user who is forgotten last has no list"
    assert {item.item_id for item in by_user["u"].items} == {"a", "b"}, "what was seen before is forgotten"
    assert by_user["u"].source.offset == 4
    assert worker.fresh == [([TIME_MS, TIME_MS + 4], [ACKNOWLEDGED_AT] * 2)]
    assert worker.effects.index("forget") < worker.effects.index("send"), "a tombstone after the list would erase it"
    assert worker.progress.counts.learned == 7


def test_a_user_forgotten_twice_in_a_batch_has_two_tombstones_and_the_last_one_counts(start):
    topic = Topic()
    topic.append(0, click("v", "b"), click("u", "a"), forget("u"), click("u", "b"), forget("u"), click("u", "c"))

    worker = start(topic)
    worker.run()

    assert worker.publisher.tombstones == ["u", "u"]
    (message,) = [message for message in worker.publisher.lists if message.user_id == "u"]
    assert {item.item_id for item in message.items} == {"a", "b"}


def test_a_users_row_that_was_sent_before_a_forget_but_read_after_it_is_not_told(start):
    topic, users = Topic(), Users()
    topic.append(0, click("v", "b"), click("u", "a"), forget("u"), click("w", "a"))
    worker = start(topic)
    read_anew(worker.catalogue.users, users)
    worker.run()
    users.put("u", categories=["late"], time_ms=TIME_MS + 1)
    users.put("w", categories=["new"], time_ms=TIME_MS + 1)

    topic.append(0, click("v", "a"))
    worker.run()

    said = worker.learner.said.content
    assert [name for name in ("u", "w") if said.ids.row(name) is not None] == ["w"]
