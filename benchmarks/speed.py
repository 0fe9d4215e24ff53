"""`python -m benchmarks.speed --json`: how fast the worker is, as ratios to the bare Kafka client in the same run.

Machines differ and are shared, so rates mean little by themselves. Each line is an object with what was measured and
its full settings; the last line sums up:

    decode_of_bare                       the bare client and the worker's decoder, over bare
    ingest_learn_of_bare                 the worker from take to learn, lists left out, at the smaller catalogue, in
                                         steps of at most 4,096 events, over bare
    ingest_learn_of_bare_at_most         what that would be if nobody ever waited: events that all processors could do
                                         with the processor time that an event takes of the worker and of the broker
    ingest_learn_512_of_bare             the same in steps of at most 512 events, the default
    service_10k_of_bare, service_50k_... the whole worker, a fresh list for every touched user, over bare; lists by
                                         HEADRACE_TOPK=fast
    service_..._exact_of_bare            the same with exact lists, the default
    topk_recall                          of the fast lists, as the worker measures it, at the larger catalogue
    default_..._of_bare                  the same figures with the default encoder instead of `recency` at width 64
    users_per_second_1m_items            fast lists made a second out of 1 M items, by the learner alone
    lists_per_event                      lists recomputed for each event of the service at the smaller catalogue
    freshness_p99_of_two_hops_10k, ...   p99 from event sent to list acknowledged over that of two bare hops, at
                                         5,000 events/s
    freshness_p99_ms_at_80_percent       p99 at 80 % of what it gets done, at the smaller catalogue, while more is sent
                                         than it can do
    learn_of_river                       ratings predicted and learned a second, HEADRACE_RATING_MODEL=factors over
                                         River's BiasedMF, on MovieLens-100K (where it cannot be had, on the stream);
                                         `rmse` of all beside it
    neighbours_learn_of_river            the same of the default rating model
    service_of_river                     events/s from take to learn, with Kafka, over River's BiasedMF in memory, on
                                         the same stream
    freshness_ms                         p50, p99 and p99.9 at each rate, of two bare hops and of each catalogue; of the
                                         three goes of a full run the one whose p99 is in the middle
    freshness_ms_with_saves              the same of the worker at 5,000 events/s, with a checkpoint every 5 s

`bare` is `consume(10000)` and `value()` in a process of its own, read before and after each worker; the median of
these readings is what its rates are divided by. Quality is ranked live as the default has it (few users: see
HEADRACE_QUALITY_SHARE). `--quick` ends within 5 minutes, a full run within 20.
"""

import argparse
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from typing import Final

from benchmarks import report
from benchmarks.bare import consume_and_decode, consume_bare
from benchmarks.freshness import measure_hops, measure_saturation, measure_service
from benchmarks.phases import Phase, close_service, lists_of_large, open_service, rivals, run_phase
from benchmarks.processes import Process, run_alone
from benchmarks.report import Result
from benchmarks.sending import preload
from benchmarks.stream import Stream
from consumer.broker import InProcessBroker

RECOMMENDATIONS_TOPIC, DEAD_LETTER_TOPIC = "recs.recommendations.v1", "dlq.recs.events.v1"
OUTPUT_PARTITIONS = 8
OVERSHOT = 2 * 4096


@dataclass(frozen=True)
class Plan:
    """How much is measured, and for how long."""

    stream: Stream = field(default_factory=Stream)
    catalogues: tuple[int, ...] = (10_000, 50_000)
    large_catalogue: int = 1_000_000
    phase_seconds: float = 20.0
    rates: tuple[float, ...] = (1000.0, 5000.0)
    freshness_seconds: float = 8.0
    """Short, on a broker of its own each time: the in-process broker takes longer with each record that it holds."""
    freshness_goes: int = 3
    """Times that each rate is measured; the one whose p99 is in the middle counts, as the host is shared."""
    busy_seconds: float = 6.0
    """The same near saturation, where a backlog may grow: of eight partitions the in-process broker holds some 280,000
    records, and drops the rest.
    """
    save_seconds: float | None = 5.0
    """Seconds between checkpoints in further goes at the highest rate, since the others are too short for one. None: no
    such goes.
    """
    drain_seconds: float = 60.0
    """Longest wait for lists that are late, after the last event was sent."""
    freshness_partitions: int = 8
    bare_readings: int = 3


QUICK = Plan(
    stream=Stream(events=600_000),
    phase_seconds=3.0,
    freshness_seconds=6.0,
    freshness_goes=1,
    save_seconds=None,
    drain_seconds=4.0,
    bare_readings=2,
)
RECENCY: Final[dict[str, object]] = {"encoder": "recency", "embedding_dim": 64}
"""What the ratios are of: see docs/speed.md."""
DEFAULT: Final[dict[str, object]] = {"group_id": "headrace-default"}
"""A second worker on the same topic."""
LARGE_STEP: Final = 4096
EARLIER: Final = 20_000
"""Events learned before freshness is timed: with all items met once each, a scan can skip none of them."""
OFFERED: Final = 1.25
"""Of what the worker does on a backlog: more than it can do while a sender is at work."""
SATURATION: Final = 0.8
"""Of what it does then."""


class Run:
    """One run of a plan; prints as it goes."""

    def __init__(self, plan: Plan, *, as_json: bool) -> None:
        self.plan = plan
        self._as_json = as_json

    def everything(self) -> Result:
        plan = self.plan
        machine = report.machine()
        readings: dict[int, dict[str, Result]] = {}
        bares: dict[int, list[Result]] = {}
        for items in plan.catalogues:
            readings[items], bares[items] = self.throughput(items)
        bare = {items: report.median_rate(results) for items, results in bares.items()}
        beside = self.rivals()
        lists = self.lists()
        hops = {rate: self.hops(rate) for rate in plan.rates}
        smallest = plan.catalogues[0]
        offered = round(OFFERED * readings[smallest]["service, exact"]["events_per_second"])
        fresh = {items: self.freshness(items, offered if items == smallest else None) for items in plan.catalogues}
        saving = {} if plan.save_seconds is None else {items: self.saving(items) for items in plan.catalogues}
        return {
            "benchmark": "summary",
            "bare_events_per_second": {report.short(items): round(rate, 1) for items, rate in bare.items()},
            **report.throughput_ratios(readings, bare),
            "ingest_learn_of_bare_at_most": report.at_most(
                readings[plan.catalogues[0]]["learn"], bares[plan.catalogues[0]], machine["cores"]
            ),
            f"users_per_second_{report.short(plan.large_catalogue)}_items": lists["fast"]["users_per_second"],
            **report.freshness_ratios(fresh, hops, plan.rates[-1]),
            "freshness_ms_with_saves": {
                f"{report.short(items)} items": report.times(at) for items, at in saving.items()
            },
            **report.rival_ratios(beside, readings[smallest]["learn"]["events_per_second"]),
            "machine": machine,
            "settings": {"plan": asdict(plan), "worker": RECENCY},
        }

    def throughput(self, items: int) -> tuple[dict[str, Result], list[Result]]:
        """Decoding, and the worker with more and more of its work, on one topic; bare readings around them."""
        stream = replace(self.plan.stream, items=items)
        with self._broker(stream) as broker:
            self._tell("preload", run_alone(preload, broker.bootstrap_servers, stream), stream)
            bare = self._read_bare(broker, stream)
            decoded = run_alone(consume_and_decode, broker.bootstrap_servers, stream)
            self._tell("decode", decoded, stream)
            readings = {"decode": decoded, **self._phases(broker, stream)}
            bare += self._read_bare(broker, stream)
        return readings, bare

    def hops(self, rate: float) -> Result:
        goes = [self._hops(rate) for _ in range(self.plan.freshness_goes)]
        return report.middle(goes, lambda go: go["two_hops"]["p99_ms"])

    def _hops(self, rate: float) -> Result:
        stream = self._steady(rate, self.plan.catalogues[0], self.plan.freshness_seconds)
        with self._broker(stream) as broker:
            hops = measure_hops(broker.bootstrap_servers, stream, rate)
        self._tell(f"hops at {rate:g}/s", hops, stream)
        return hops

    def rivals(self) -> Result:
        """River and Vowpal Wabbit beside the rating head."""
        found = run_alone(rivals, self.plan.stream)
        self._tell("rivals", found, self.plan.stream)
        return found

    def lists(self) -> Result:
        """Lists out of a large catalogue, by the learner alone, in both modes."""
        found = run_alone(lists_of_large, self.plan.large_catalogue, self.plan.phase_seconds)
        for mode, figures in found.items():
            report.emit({"benchmark": f"lists, {mode}", **figures}, as_json=self._as_json)
        return found

    def freshness(self, items: int, offered: float | None = None) -> dict[float, Result]:
        """The worker at each rate; where more than it can do is `offered`, then at a share of what it does of that.

        On a broker of its own each time, as the hops have it: to find a fetch's place the in-process broker goes
        through all it holds, so that it takes longer with each record.
        """
        service = partial(measure_service, drain_seconds=self.plan.drain_seconds)
        results = {}
        for rate in sorted(self.plan.rates):
            goes = [self._fresh(service, "freshness at", items, rate) for _ in range(self.plan.freshness_goes)]
            results[rate] = report.middle(goes, lambda go: go["p99_ms"])
        if offered is not None:
            most = self._fresh(measure_saturation, "offered", items, offered, is_busy=True)
            rate = round(SATURATION * most["events_per_second_once_begun"])
            results[rate] = self._fresh(service, "freshness at", items, rate, is_busy=True)
        return results

    def saving(self, items: int) -> Result:
        """The worker at the highest rate, with checkpoints among what events wait for."""
        service = partial(measure_service, drain_seconds=self.plan.drain_seconds)
        worker = {**RECENCY, "checkpoint_seconds": self.plan.save_seconds}
        goes = [
            self._fresh(service, "freshness, with saves, at", items, max(self.plan.rates), worker=worker)
            for _ in range(self.plan.freshness_goes)
        ]
        return report.middle(goes, lambda go: go["p99_ms"])

    def _fresh(
        self,
        measure: Callable[..., Result],
        what: str,
        items: int,
        rate: float,
        *,
        is_busy: bool = False,
        worker: Mapping[str, object] = RECENCY,
    ) -> Result:
        stream = self._steady(rate, items, self.plan.busy_seconds if is_busy else self.plan.freshness_seconds)
        with self._broker(stream) as broker, Process() as process:
            settings = process.run(open_service, broker.bootstrap_servers, stream, dict(worker))
            earlier = replace(stream, events=min(EARLIER, stream.events), seed=stream.seed + 1)
            run_alone(preload, broker.bootstrap_servers, earlier)  # `measure` has it learned first
            found = measure(process, broker.bootstrap_servers, stream, rate)
            process.run(close_service)
        self._tell(f"{what} {rate:g}/s, {report.short(items)} items", found, stream, settings)
        return found

    def _phases(self, broker: InProcessBroker, stream: Stream) -> dict[str, Result]:
        # Most of the stream for the fastest phase. Steps overshoot, and the last phase has to find its share.
        seconds, tenth = self.plan.phase_seconds, max(1, stream.events - OVERSHOT) // 10
        phases = [
            Phase("learn", seconds, 4 * tenth, lists=False, batch_size=LARGE_STEP),
            Phase("learn, 512", seconds, 2 * tenth, lists=False),
            Phase("service, exact", seconds, 2 * tenth, lists=True, topk="exact"),
            Phase("service, fast", seconds, 2 * tenth, lists=True, topk="fast"),
        ]
        results: dict[str, Result] = {}
        for prefix, given, wanted in (("", RECENCY, phases), ("default: ", DEFAULT, phases[1:])):
            with Process() as process:
                settings = process.run(open_service, broker.bootstrap_servers, stream, given)
                for phase in wanted:
                    result = results[prefix + phase.name] = process.run(run_phase, phase)
                    self._tell(f"{prefix}{phase.name}, {report.short(stream.items)} items", result, stream, settings)
                process.run(close_service)
        return results

    def _read_bare(self, broker: InProcessBroker, stream: Stream) -> list[Result]:
        results = []
        for _ in range(self.plan.bare_readings):
            started = time.process_time()  # of this process, where the broker is, and nothing else that works
            read = run_alone(consume_bare, broker.bootstrap_servers, stream)
            seconds = time.process_time() - started
            results.append({**read, "broker_events_per_cpu_second": round(stream.events / seconds, 1)})
            self._tell("bare", results[-1], stream)
        return results

    def _steady(self, rate: float, items: int, seconds: float) -> Stream:
        events = round(rate * seconds)
        return replace(self.plan.stream, events=events, items=items, partitions=self.plan.freshness_partitions)

    def _broker(self, stream: Stream) -> InProcessBroker:
        partitions = {stream.topic: stream.partitions, stream.relayed_topic: stream.partitions}
        return InProcessBroker({**partitions, RECOMMENDATIONS_TOPIC: OUTPUT_PARTITIONS, DEAD_LETTER_TOPIC: 1})

    def _tell(self, name: str, result: Result, stream: Stream, worker: dict[str, object] | None = None) -> None:
        settings = {"stream": asdict(stream), **({"worker": worker} if worker else {})}
        report.emit({"benchmark": name, **result, "settings": settings}, as_json=self._as_json)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.speed", description=__doc__.split("\n", 1)[0])
    parser.add_argument("--json", action="store_true", help="one object a line, the last one the summary")
    parser.add_argument("--quick", action="store_true", help="shorter: within 5 minutes")
    parser.add_argument("--items", type=_counts, metavar="N,N", help="sizes of the catalogue, smallest first")
    parser.add_argument("--large", type=int, metavar="N", help="size of the catalogue that lists alone are made from")
    parser.add_argument("--users", type=int, help="users of the stream")
    parser.add_argument("--events", type=int, help="events of the preloaded stream")
    parser.add_argument("--seconds", type=float, help="length of each phase and of each rate")
    given = parser.parse_args(arguments)
    plan = QUICK if given.quick else Plan()
    changes = {name: value for name in ("users", "events") if (value := getattr(given, name)) is not None}
    plan = replace(plan, stream=replace(plan.stream, **changes))
    if given.items:
        plan = replace(plan, catalogues=given.items)
    if given.large is not None:
        plan = replace(plan, large_catalogue=given.large)
    if given.seconds is not None:
        plan = replace(plan, phase_seconds=given.seconds, freshness_seconds=given.seconds)
    report.emit(Run(plan, as_json=given.json).everything(), as_json=given.json)


def _counts(text: str) -> tuple[int, ...]:
    return tuple(sorted(int(part) for part in text.split(",")))


if __name__ == "__main__":
    main()
