"""Simulated people: the same for the same seed, with something to learn that changes as promised."""

import random
from collections import Counter, defaultdict
from collections.abc import Iterable
from itertools import islice

import pytest

from producer.events import Click, Event, Rating, encode
from producer.simulate import GAP_MS, START_MS, _People, catalogue, simulate

CLUSTER_OF = {item.item_id: (item.categories or [""])[0] for item in catalogue(items=400, events=20_000)}


def stream(**settings: object) -> list[Click | Rating]:
    arguments = {"users": 50, "items": 400, "events": 20_000, **settings}
    return [event for event in simulate(**arguments) if isinstance(event, Click | Rating)]  # type: ignore[arg-type]


def shares(events: Iterable[Click | Rating]) -> dict[str, Counter[str]]:
    """How often each user took from each cluster."""
    taken: dict[str, Counter[str]] = defaultdict(Counter)
    for event in events:
        taken[event.user_id][CLUSTER_OF[event.item_id]] += 1
    return taken


def faithfulness(events: list[Click | Rating]) -> float:
    """How much more the last quarter of users resembles their own first quarter than that of the next user.

    The overlap of the shares of clusters, from 0 (strangers) to 1; mean over users.
    """
    first, last = shares(events[: len(events) // 4]), shares(events[-len(events) // 4 :])
    users = sorted(first.keys() & last.keys())
    own = [overlap(first[user], last[user]) for user in users]
    next_one = [overlap(first[user], last[other]) for user, other in zip(users, users[1:] + users[:1], strict=True)]
    return (sum(own) - sum(next_one)) / len(users)


def overlap(some: Counter[str], others: Counter[str]) -> float:
    return sum(min(count / some.total(), others[cluster] / others.total()) for cluster, count in some.items())


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others() -> None:
    first, same, other = (b"".join(map(encode, stream(events=2_000, seed=seed))) for seed in (7, 7, 8))

    assert first == same
    assert first != other


def test_a_counted_stream_ends_and_an_endless_one_goes_on() -> None:
    assert len(stream(events=123)) == 123
    assert len(list(islice(simulate(users=3, items=5), 5_000))) == 5_000


def test_timestamps_follow_from_the_number_of_the_event() -> None:
    assert [event.timestamp for event in stream(events=3)] == [START_MS, START_MS + GAP_MS, START_MS + 2 * GAP_MS]


def test_a_clock_gives_each_event_the_time_of_its_making() -> None:
    times = iter([5, 50, 500])

    events = simulate(clock_ms=lambda: next(times))

    assert [event.timestamp for event in islice(events, 3)] == [5, 50, 500]


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_ratings_have_the_share_that_was_asked_for(share: float) -> None:
    kinds = Counter(type(event) for event in stream(rating_share=share))

    assert kinds[Rating] / 20_000 == pytest.approx(share, abs=0.015)


def test_ratings_are_halves_on_the_default_scale() -> None:
    ratings = {event.rating for event in stream() if isinstance(event, Rating)}

    assert ratings <= {step / 2 for step in range(1, 11)}
    assert len(ratings) > 5


def test_ratings_fill_another_scale_in_ten_steps() -> None:
    ratings = {event.rating for event in stream(rating_min=1, rating_max=10) if isinstance(event, Rating)}

    assert ratings <= set(range(1, 11))
    assert 10 in ratings


def test_a_user_takes_mostly_from_few_clusters_and_differs_from_others() -> None:
    taken = shares(stream(drift=0.0)).values()
    favourites = {counts.most_common(1)[0][0] for counts in taken}
    in_three = [sum(count for _, count in counts.most_common(3)) / counts.total() for counts in taken]

    assert sum(in_three) / len(in_three) > 0.6  # of twenty clusters
    assert len(favourites) > 8


def test_some_items_are_hits() -> None:
    counts = Counter(event.item_id for event in stream())

    top_tenth = sum(count for _, count in counts.most_common(40))
    assert top_tenth > 0.25 * 20_000


def test_ratings_are_higher_where_the_user_comes_more_often() -> None:
    events = stream(drift=0.0, rating_share=1.0)
    taken = shares(events)
    favourite, other = [], []
    for event in events:
        assert isinstance(event, Rating)
        is_favourite = CLUSTER_OF[event.item_id] == taken[event.user_id].most_common(1)[0][0]
        (favourite if is_favourite else other).append(event.rating)

    assert sum(favourite) / len(favourite) > sum(other) / len(other) + 0.3


def test_tastes_stay_without_drift_and_change_more_with_more_of_it() -> None:
    none, some, much = (faithfulness(stream(drift=drift)) for drift in (0.0, 0.01, 1.0))

    assert none > some + 0.1
    assert some > much + 0.1


@pytest.mark.parametrize("drift", [0.1, 0.9])
def test_drift_leaves_the_spread_of_tastes_as_it_is(drift: float) -> None:
    people = _People(random.Random(1), users=1, drift=drift)

    tastes = [taste for _ in range(2_000) for taste in people.someone_comes().person.tastes]

    assert sum(taste**2 for taste in tastes) / len(tastes) == pytest.approx(1.0, abs=0.1)


def test_another_seed_is_other_people() -> None:
    some, others = ({event.user_id for event in stream(users=5_000, events=500, seed=seed)} for seed in (7, 8))

    assert len(some & others) < 0.2 * len(some)


def test_some_people_come_more_often() -> None:
    numbers = [int(event.user_id[1:]) for event in stream(users=1_000)]

    first_quarter = sum(number < 250 for number in numbers) / len(numbers)
    assert first_quarter == pytest.approx(0.25 ** (1 / 1.5), abs=0.05)


def test_a_turn_over_changes_tastes_at_its_moment_and_nothing_before() -> None:
    calm = stream(drift=0.0)
    turned = stream(drift=0.0, turnover_at=0.5)

    assert turned[:10_000] == calm[:10_000]
    assert faithfulness(turned) < faithfulness(calm) - 0.2


def test_late_items_enter_one_after_another_and_some_are_taken_soon() -> None:
    first_taken: dict[int, int] = {}
    for number, event in enumerate(stream(late_share=0.5)):
        first_taken.setdefault(int(event.item_id[1:]), number)

    late = {item: number for item, number in first_taken.items() if item >= 200}
    assert len(late) > 150
    for item, number in late.items():
        assert number >= (item - 199) * 20_000 // 201
    assert min(first_taken[item] for item in late if item >= 390) > 18_000
    assert sum(number < (item - 199) * 20_000 // 201 + 1_000 for item, number in late.items()) > 50


def test_the_catalogue_names_each_item_that_is_taken_and_when_it_entered() -> None:
    known = {item.item_id: item for item in catalogue(items=400, events=20_000)}

    for event in stream():
        item = known[event.item_id]
        assert item.timestamp <= event.timestamp
        assert item.title == f"Item {event.item_id[1:]} ({CLUSTER_OF[event.item_id]})"


def test_a_user_does_not_take_the_same_again_while_there_is_more() -> None:
    events = stream(users=200, items=4_000)

    pairs = {(event.user_id, event.item_id) for event in events}

    assert len(pairs) > 0.9 * len(events)


def test_few_users_and_one_item_still_make_a_stream() -> None:
    assert {event.item_id for event in stream(users=1, items=1, events=50, late_share=0.0)} == {"i0"}


def test_a_single_item_enters_at_once_even_if_all_are_late() -> None:
    events: list[Event] = list(simulate(users=1, items=1, events=5, late_share=1.0))

    assert len(events) == 5


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"users": 0}, "users: expected 1 or more, got 0"),
        ({"items": -1}, "items: expected 1 or more, got -1"),
        ({"events": 0}, "events: expected 1 or more, got 0"),
        ({"drift": 1.5}, r"drift: expected a number from 0 to 1, got 1\.5"),
        ({"drift": float("nan")}, "drift: expected a number from 0 to 1, got nan"),
        ({"rating_share": -0.1}, r"rating_share: expected a number from 0 to 1, got -0\.1"),
        ({"late_share": 2.0}, r"late_share: expected a number from 0 to 1, got 2\.0"),
        ({"rating_min": 5, "rating_max": 5}, r"rating_min: expected less than rating_max \(5\), got 5"),
        ({"turnover_at": 0.5, "events": None}, "turnover_at: .* give events as well"),
    ],
)
def test_a_wrong_argument_is_named_before_the_first_event(wrong: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        simulate(**{"events": 10, **wrong})  # type: ignore[arg-type]
