"""The benchmarks measure what they say: the stream is what it claims, and a run ends with its keys."""

import json
import math
import subprocess
import sys
from collections import Counter
from itertools import chain, pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import numpy as np
import pytest
from failing_call import fail

from consumer.broker import InProcessBroker
from consumer.decode import Decoder
from consumer.records import Taken
from producer.events import Event, Rating
from producer.fetch import DatasetUnavailable

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))  # `python -m benchmarks.speed` finds them from the root, pytest alone does not

from benchmarks import gpu, report, rivals, speed, stream  # noqa: E402  # after the path
from benchmarks.bare import consume_and_decode, consume_bare  # noqa: E402
from benchmarks.freshness import quantiles  # noqa: E402
from benchmarks.introduction import introduce, item_id, user_id  # noqa: E402
from benchmarks.processes import Process  # noqa: E402
from benchmarks.sending import NotSent, preload, send_steadily  # noqa: E402
from benchmarks.stream import Stream, draw, encoded, zipf  # noqa: E402
from model.learner import Learner  # noqa: E402
from model.settings import LearnerSettings  # noqa: E402
from model.topk import TopK  # noqa: E402

SMALL = Stream(events=2000, users=50, items=20, partitions=4)


def records(of: Stream) -> list[tuple[bytes, bytes]]:
    return list(chain.from_iterable(encoded(of)))


def last_line(module: str, *arguments: str) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-m", module, "--json", *arguments], cwd=ROOT, capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stderr
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return answer


# --- the stream ---


def test_every_event_of_the_stream_has_the_stated_size() -> None:
    largest = Stream(events=3000, users=100_000, items=10_000_000)

    sizes = {len(value) for of in (SMALL, largest) for _, value in records(of)}

    assert sizes == {stream.EVENT_BYTES} == {122}


def test_the_worker_accepts_every_event_and_reads_what_was_drawn() -> None:
    draws = draw(SMALL)

    events = [msgspec.json.decode(value, type=Event) for _, value in records(SMALL)]

    assert [event.user_id for event in events] == [user_id(user) for user in draws.users_N]
    assert [event.item_id for event in events] == [item_id(item) for item in draws.items_N]
    assert [type(event).__name__ == "Rating" for event in events] == draws.rated_N.tolist()
    assert all(after.timestamp == before.timestamp + 1 for before, after in pairwise(events))
    ratings = {event.rating for event in events if type(event).__name__ == "Rating"}
    assert ratings == {half / 2 for half in range(1, 11)}


def test_records_are_keyed_by_user() -> None:
    assert all(json.loads(value)["user_id"].encode() == key for key, value in records(SMALL))


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others() -> None:
    first, second, other = records(SMALL), records(SMALL), records(Stream(**{**vars(SMALL), "seed": 1}))

    assert first == second
    assert first != other


@pytest.mark.parametrize("exponent", [0.0, 0.7, 0.8, 1.5])
def test_draws_follow_zipfs_law(exponent: float) -> None:
    size, ids = 200_000, 40
    weights = np.arange(1, ids + 1) ** -exponent
    expected = size * weights / weights.sum()

    drawn = Counter(zipf(np.random.default_rng(7), ids, exponent, size).tolist())

    counts = np.sort([drawn[one] for one in range(ids)])[::-1]
    # Five standard deviations of a count; sorting moves only equally likely ones.
    assert (np.abs(counts - expected) < 5 * np.sqrt(expected)).all()


def test_popular_ids_are_spread_over_the_rows() -> None:
    most_popular = Counter(zipf(np.random.default_rng(7), 1000, 1.0, 50_000).tolist()).most_common(10)

    assert [place for place, _ in most_popular] != sorted(place for place, _ in most_popular)
    assert max(place for place, _ in most_popular) > 100


@pytest.mark.parametrize(
    ("wrong", "name"),
    [
        ({"events": 0}, "events"),
        ({"users": 100_001}, "users"),
        ({"items": 0}, "items"),
        ({"rated_share": 1.1}, "rated"),
    ],
)
def test_a_stream_that_cannot_be_is_refused_by_the_name_of_what_is_wrong(wrong: dict[str, Any], name: str) -> None:
    with pytest.raises(ValueError, match=f"^{name}"):
        Stream(**wrong)


# --- sending and reading ---


def test_a_preloaded_topic_holds_the_whole_stream_and_the_bare_consumer_reads_it_whole() -> None:
    with InProcessBroker({stream.EVENTS_TOPIC: SMALL.partitions}) as broker:
        sent = preload(broker.bootstrap_servers, SMALL)
        bare = consume_bare(broker.bootstrap_servers, SMALL)
        decoded = consume_and_decode(broker.bootstrap_servers, SMALL)

    assert sent["events"] == bare["events"] == decoded["events"] == SMALL.events
    assert bare["events_per_second"] > 0


def test_a_topic_that_dropped_events_is_noticed_before_anything_is_measured() -> None:
    too_much = Stream(events=60_000, users=50, items=20, partitions=1)  # 8 MB on a partition that holds 5

    with InProcessBroker({stream.EVENTS_TOPIC: 1}) as broker, pytest.raises(NotSent, match="kept"):
        preload(broker.bootstrap_servers, too_much)


def test_steady_sending_keeps_to_its_rate() -> None:
    with InProcessBroker({stream.EVENTS_TOPIC: SMALL.partitions}) as broker:
        sent = send_steadily(broker.bootstrap_servers, SMALL, rate=4000)

    assert sent["events"] == SMALL.events
    assert sent["seconds"] >= 0.99 * SMALL.events / 4000


# --- what is made of the times ---


def test_quantiles_leave_the_first_two_seconds_out() -> None:
    slow_start = [9.0] * 200 + [0.001 * n for n in range(1, 101)]

    found = quantiles(slow_start, rate=100)

    assert found == {
        "p50_ms": pytest.approx(51, abs=1),
        "p99_ms": pytest.approx(100, abs=1),
        "p99.9_ms": 100,
    }


def test_events_without_a_list_count_as_the_slowest() -> None:
    with_all, with_some = quantiles([0.001] * 98 + [5.0], 0), quantiles([0.001] * 98 + [5.0], 0, missing=5)

    assert with_all["p50_ms"] == with_some["p50_ms"] == 1
    assert with_some["p99_ms"] == 5000


def test_quantiles_of_nothing_are_an_error_and_not_a_figure() -> None:
    with pytest.raises(ValueError, match="no event"):
        quantiles([], 1000)


def test_an_introduced_learner_lists_every_item_of_the_catalogue() -> None:
    learner = Learner(LearnerSettings(ranked_share=0.25))

    introduce(learner, SMALL)

    assert (learner.users.in_use, learner.items.in_use) == (SMALL.users, SMALL.items)
    (one,) = TopK(learner, SMALL.items).lists_of([user_id(0)])
    assert len(one.item_ids) == SMALL.items - 1  # all but the one that the user has
    assert learner.settings.ranked_share == 0.25


# --- the last line ---


def rates(**by_phase: float) -> dict[str, dict[str, float]]:
    names = {"exact": "service, exact", "fast": "service, fast", "learn_512": "learn, 512"}
    found = {
        names.get(name, name): {"events_per_second": rate, "lists_per_event": 0.95, "topk_recall": 0.99}
        for name, rate in by_phase.items()
    }
    slower = {
        f"default: {name}": {**one, "events_per_second": one["events_per_second"] / 10} for name, one in found.items()
    }
    return {**found, **slower}


def test_rates_are_divided_by_the_bare_rate_read_around_them_under_the_agreed_names() -> None:
    readings = {
        10_000: rates(decode=600.0, learn=200.0, learn_512=150.0, exact=40.0, fast=50.0),
        50_000: rates(decode=1.0, learn=100.0, learn_512=75.0, exact=5.0, fast=10.0),
    }

    found = report.throughput_ratios(readings, {10_000: 1000.0, 50_000: 500.0})

    assert found == {
        "decode_of_bare": 0.6,
        "ingest_learn_of_bare": 0.2,
        "ingest_learn_512_of_bare": 0.15,
        "service_10k_of_bare": 0.05,
        "service_10k_exact_of_bare": 0.04,
        "service_50k_of_bare": 0.02,
        "service_50k_exact_of_bare": 0.01,
        "topk_recall": 0.99,
        "default_ingest_learn_512_of_bare": 0.015,
        "default_service_10k_of_bare": 0.005,
        "default_service_10k_exact_of_bare": 0.004,
        "default_service_50k_of_bare": 0.002,
        "default_service_50k_exact_of_bare": 0.001,
        "lists_per_event": 0.95,
    }


def test_what_could_be_at_most_is_worked_out_from_the_processor_time_of_worker_and_broker() -> None:
    bare = [{"events_per_second": 1000.0, "broker_events_per_cpu_second": rate} for rate in (2000.0, 500.0, 1000.0)]

    # 5 ms of the worker and 1 ms of the broker for an event: two processors do an event in 3 ms
    assert report.at_most({"events_per_cpu_second": 200.0}, bare, processors=2) == pytest.approx(0.33333)


@pytest.mark.parametrize("has_movielens", [True, False])
def test_rivals_are_compared_on_real_ratings_where_they_can_be_had(has_movielens: bool) -> None:
    def measured(ours: float, rivers: float) -> dict[str, object]:
        return {
            "headrace": {"events_per_second": ours / 2, "rmse": 0.9},
            "headrace, factors": {"events_per_second": ours, "rmse": 0.92},
            "river": {"events_per_second": rivers, "rmse": 0.95},
            "vowpal wabbit": None,
        }

    rivals = {"stream": measured(300.0, 10.0), "movielens-100k": measured(400.0, 20.0) if has_movielens else None}

    found = report.rival_ratios(rivals, ingested=50.0)

    assert found["learn_of_river"] == (20 if has_movielens else 30)
    assert found["neighbours_learn_of_river"] == (10 if has_movielens else 15)
    assert found["service_of_river"] == 5
    assert found["rmse"] == {"headrace": 0.9, "headrace, factors": 0.92, "river": 0.95, "vowpal wabbit": None}
    assert found["rivals_on"] == ("movielens-100k" if has_movielens else "stream")


def test_rivals_learn_the_same_ratings(monkeypatch: pytest.MonkeyPatch) -> None:
    def nowhere(_most: int) -> None:
        raise DatasetUnavailable("no network")

    monkeypatch.setattr("benchmarks.rivals.of_movielens", nowhere)

    found = rivals.measure(SMALL)

    assert found["movielens-100k"] is None
    assert found["why"] == "no network"
    rated = int(stream.draw(SMALL).rated_N.sum())
    for name in ("headrace", "headrace, factors", "river"):
        assert found["stream"][name]["events"] == rated
        assert 1 < found["stream"][name]["rmse"] < 2  # ratings of 0.5 to 5 without any sense


def test_rivals_learn_no_more_real_ratings_than_the_stream_has_events(monkeypatch: pytest.MonkeyPatch) -> None:
    events = [msgspec.json.decode(value, type=Event) for _, value in records(SMALL)]
    rated = [event for event in events if isinstance(event, Rating)]
    monkeypatch.setattr("producer.datasets.load", lambda _name: SimpleNamespace(events=rated))

    found = rivals.measure(Stream(**{**vars(SMALL), "events": 100}))

    assert found["movielens-100k"]["river"]["events"] == 100 < len(rated)


def test_freshness_is_divided_by_two_hops_at_the_same_rate() -> None:
    hops = {rate: {"two_hops": {"p50_ms": 4.0, "p99_ms": rate / 500, "p99.9_ms": 9.0}} for rate in (1000.0, 5000.0)}
    fresh = {
        items: {
            rate: {"p50_ms": 1.0, "p99_ms": rate * items / 10**6, "p99.9_ms": 9.0}
            for rate in (1000.0, 5000.0, *((40_000.0,) if items == 10_000 else ()))
        }
        for items in (10_000, 50_000)
    }

    found = report.freshness_ratios(fresh, hops, 5000.0)

    assert found["freshness_p99_of_two_hops_10k"] == 5
    assert found["freshness_p99_of_two_hops_50k"] == 25
    assert found["freshness_ms"]["two hops"]["1000/s"] == {"p50": 4, "p99": 2, "p99.9": 9}
    assert found["freshness_ms"]["50k items"]["5000/s"] == {"p50": 1, "p99": 250, "p99.9": 9}
    assert found["freshness_p99_ms_at_80_percent"] == 400


def test_of_several_goes_the_one_in_the_middle_counts() -> None:
    goes = [{"p99_ms": slow, "go": go} for go, slow in enumerate((20.0, 700.0, 18.0))]

    assert report.middle(goes, lambda go: go["p99_ms"])["go"] == 0
    assert report.middle(goes[1:2], lambda go: go["p99_ms"])["go"] == 1


@pytest.mark.parametrize(("number", "name"), [(10_000, "10k"), (50_000, "50k"), (1_000_000, "1m"), (120, "120")])
def test_sizes_are_named_shortly(number: int, name: str) -> None:
    assert report.short(number) == name


def test_the_plans_are_those_that_the_figures_are_about() -> None:
    full = speed.Plan()

    assert (full.stream.events, full.stream.users, full.stream.partitions) == (1_000_000, 100_000, 64)
    assert full.catalogues == speed.QUICK.catalogues == (10_000, 50_000)
    assert full.rates == speed.QUICK.rates == (1000.0, 5000.0)


def test_a_quick_run_on_a_tiny_stream_ends_with_the_keys_and_the_settings() -> None:
    summed = last_line(
        *("benchmarks.speed", "--quick", "--items", "60", "--large", "5000", "--users", "400"),
        *("--events", "20000", "--seconds", "0.5"),
    )

    ratios = {name: value for name, value in summed.items() if isinstance(value, float)}
    assert set(ratios) == {
        "decode_of_bare",
        "ingest_learn_of_bare",
        "ingest_learn_of_bare_at_most",
        "ingest_learn_512_of_bare",
        "service_60_of_bare",
        "service_60_exact_of_bare",
        "topk_recall",
        "default_ingest_learn_512_of_bare",
        "default_service_60_of_bare",
        "default_service_60_exact_of_bare",
        "users_per_second_5k_items",
        "lists_per_event",
        "freshness_p99_of_two_hops_60",
        "freshness_p99_ms_at_80_percent",
        "learn_of_river",
        "neighbours_learn_of_river",
        "service_of_river",
    }
    assert all(math.isfinite(value) and value > 0 for value in ratios.values())
    assert set(summed["freshness_ms"]) == {"two hops", "60 items"}
    assert {"1000/s", "5000/s"} < set(summed["freshness_ms"]["60 items"])
    assert summed["settings"]["plan"]["stream"]["users"] == 400
    assert summed["machine"]["cores"] >= 1


def test_the_benchmark_of_the_device_ends_with_times_beside_their_floors() -> None:
    summed = last_line("benchmarks.gpu", "--device", "cpu", "--items", "300", "--users", "16", "--seconds", "0.05")

    times = summed["300"]
    assert summed["users_per_second_300_items"] > 0
    assert summed["device"]
    for name in ("step", "ranked_step"):
        assert times[f"{name}_floor_ms"] > 0
        assert times[f"{name}_ms"] > 0
    assert times["top_k_floor_ms"] > 0
    assert times["scores_and_best_ms"] > 0
    assert times["mm_and_topk_of_grouped"] == pytest.approx(times["mm_and_topk_ms"] / times["grouped_ms"], rel=0.05)
    assert times["grouped_of_floor"] == pytest.approx(times["grouped_ms"] / times["top_k_floor_ms"], rel=0.05)
    assert 0 <= times["unproven"] <= 1


@pytest.mark.parametrize(("flops", "moved_bytes", "floor_ms"), [(2e9, 1e6, 2.0), (1e6, 3e9, 30.0), (0, 0, 0.0)])
def test_the_floor_is_the_larger_of_arithmetic_and_traffic(flops: float, moved_bytes: float, floor_ms: float) -> None:
    assert gpu.Peaks(1e12, 1e11).floor_ms(flops, moved_bytes) == pytest.approx(floor_ms)


def test_the_decoder_of_the_benchmarks_is_the_workers() -> None:
    class Kept:
        def __init__(self, value: bytes) -> None:
            self._value = value

        def value(self) -> bytes:
            return self._value

        def timestamp(self) -> tuple[int, int]:
            return 1, stream.START_MS

    accepted, rejects = Decoder()(Taken([Kept(value) for _, value in records(SMALL)]))  # type: ignore[list-item]

    assert (len(accepted), rejects) == (SMALL.events, [])


@pytest.mark.parametrize(
    ("kind", "raised", "words"),
    [("odd", RuntimeError, "NotFitToBeSent: 7 events were dropped"), ("plain", ValueError, "^the plain kind$")],
)
def test_what_a_call_in_another_process_raises_is_raised_here_whatever_it_is(
    kind: str, raised: type[Exception], words: str
) -> None:
    with Process() as process:
        with pytest.raises(raised, match=words):
            process.run(fail, kind)
        assert process.run(abs, -3) == 3
