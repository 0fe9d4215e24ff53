"""`python -m benchmarks.speed --json`: how fast the worker is, as ratios to the bare Kafka client in the same run.

Machines differ and are shared, so rates mean little by themselves. Each line is an object with what was measured and
its full settings; the last line sums up:

    decode_of_bare                       the bare client and the worker's decoder, over bare
    ingest_learn_of_bare                 the worker from take to learn, lists left out, at the smaller catalogue, over
                                         bare. Events are ranked live before they are learned, as the settings have it
    ingest_learn_unranked_of_bare        the same with nobody ranked live
    service_10k_of_bare, service_50k_... the whole worker, a fresh list for every touched user, over bare
    service_..._exact_of_bare            the same where lists are exact; there is no other kind yet
    service_..._unranked_of_bare         the same with nobody ranked live
    lists_per_event                      lists recomputed for each event of the service at the smaller catalogue
    freshness_p99_of_two_hops_10k, ...   p99 from event sent to list acknowledged over that of two bare hops, at the
                                         highest rate (5,000 events/s)

    freshness_ms                         p50 and p99 at each rate, of two bare hops and of each catalogue

`bare` is `consume(10000)` and `value()` in a process of its own, read before and after each worker; the median of
these readings is what its rates are divided by. `--quick` ends within 5 minutes, a full run within 20.
"""

import argparse
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace

from benchmarks import report
from benchmarks.bare import consume_and_decode, consume_bare
from benchmarks.freshness import RELAYED_TOPIC, measure_hops, measure_service
from benchmarks.phases import Phase, close_service, open_service, run_phase
from benchmarks.processes import Process, run_alone
from benchmarks.report import Result
from benchmarks.sending import preload
from benchmarks.stream import EVENTS_TOPIC, Stream
from consumer.broker import InProcessBroker

RECOMMENDATIONS_TOPIC, DEAD_LETTER_TOPIC = "recs.recommendations.v1", "dlq.recs.events.v1"
OUTPUT_PARTITIONS = 8
OVERSHOT = 3 * 512


@dataclass(frozen=True)
class Plan:
    """How much is measured, and for how long."""

    stream: Stream = field(default_factory=Stream)
    catalogues: tuple[int, ...] = (10_000, 50_000)
    phase_seconds: float = 20.0
    rates: tuple[float, ...] = (1000.0, 5000.0)
    freshness_seconds: float = 40.0
    """Longer than the time between two checkpoints, so that one of them is among what events wait for."""
    drain_seconds: float = 60.0
    """Longest wait for lists that are late, after the last event was sent."""
    freshness_partitions: int = 8
    bare_readings: int = 3


QUICK = Plan(
    stream=Stream(events=200_000), phase_seconds=3.0, freshness_seconds=4.0, drain_seconds=4.0, bare_readings=2
)


class Run:
    """One run of a plan; prints as it goes."""

    def __init__(self, plan: Plan, *, as_json: bool) -> None:
        self.plan = plan
        self._as_json = as_json

    def everything(self) -> Result:
        plan = self.plan
        machine = report.machine()
        readings: dict[int, dict[str, Result]] = {}
        bare: dict[int, float] = {}
        for items in plan.catalogues:
            readings[items], bare[items] = self.throughput(items)
        hops = {rate: self.hops(rate) for rate in plan.rates}
        fresh = {items: self.freshness(items) for items in plan.catalogues}
        return {
            "benchmark": "summary",
            "bare_events_per_second": {report.short(items): round(rate, 1) for items, rate in bare.items()},
            **report.throughput_ratios(readings, bare),
            **report.freshness_ratios(fresh, hops),
            "machine": machine,
            "settings": {"plan": asdict(plan)},
        }

    def throughput(self, items: int) -> tuple[dict[str, Result], float]:
        """Decoding, and the worker with more and more of its work, on one topic; the bare rate read around them."""
        stream = replace(self.plan.stream, items=items)
        with self._broker(stream) as broker:
            self._tell("preload", run_alone(preload, broker.bootstrap_servers, stream), stream)
            bare = self._read_bare(broker, stream)
            decoded = run_alone(consume_and_decode, broker.bootstrap_servers, stream)
            self._tell("decode", decoded, stream)
            readings = {"decode": decoded, **self._phases(broker, stream)}
            bare += self._read_bare(broker, stream)
        return readings, report.median_rate(bare)

    def hops(self, rate: float) -> Result:
        stream = self._steady(rate, self.plan.catalogues[0])
        with self._broker(stream) as broker:
            hops = measure_hops(broker.bootstrap_servers, stream, rate)
        self._tell(f"hops at {rate:g}/s", hops, stream)
        return hops

    def freshness(self, items: int) -> dict[float, Result]:
        """The worker at each rate, slowest first."""
        results: dict[float, Result] = {}
        with self._broker(self._steady(max(self.plan.rates), items)) as broker, Process() as process:
            streams = {rate: self._steady(rate, items) for rate in sorted(self.plan.rates)}
            settings = process.run(open_service, broker.bootstrap_servers, next(iter(streams.values())), {})
            for rate, stream in streams.items():
                results[rate] = measure_service(
                    process, broker.bootstrap_servers, stream, rate, self.plan.drain_seconds
                )
                self._tell(f"freshness at {rate:g}/s, {report.short(items)} items", results[rate], stream, settings)
            process.run(close_service)
        return results

    def _phases(self, broker: InProcessBroker, stream: Stream) -> dict[str, Result]:
        # Two fifths of the stream for the fastest phase. Steps overshoot, and the last phase has to find its share.
        seconds, fifth = self.plan.phase_seconds, max(1, stream.events - OVERSHOT) // 5
        phases = [
            Phase("learn, unranked", seconds, 2 * fifth, lists=False, ranked_share=0.0),
            Phase("learn", seconds, fifth, lists=False),
            Phase("service, unranked", seconds, fifth, lists=True, ranked_share=0.0),
            Phase("service", seconds, fifth, lists=True),
        ]
        results: dict[str, Result] = {}
        with Process() as process:
            settings = process.run(open_service, broker.bootstrap_servers, stream, {})
            for phase in phases:
                result = results[phase.name] = process.run(run_phase, phase)
                self._tell(f"{phase.name}, {report.short(stream.items)} items", result, stream, settings)
            process.run(close_service)
        return results

    def _read_bare(self, broker: InProcessBroker, stream: Stream) -> list[Result]:
        results = []
        for _ in range(self.plan.bare_readings):
            results.append(run_alone(consume_bare, broker.bootstrap_servers, stream))
            self._tell("bare", results[-1], stream)
        return results

    def _steady(self, rate: float, items: int) -> Stream:
        events = round(rate * self.plan.freshness_seconds)
        return replace(self.plan.stream, events=events, items=items, partitions=self.plan.freshness_partitions)

    def _broker(self, stream: Stream) -> InProcessBroker:
        partitions = {EVENTS_TOPIC: stream.partitions, RELAYED_TOPIC: stream.partitions}
        return InProcessBroker({**partitions, RECOMMENDATIONS_TOPIC: OUTPUT_PARTITIONS, DEAD_LETTER_TOPIC: 1})

    def _tell(self, name: str, result: Result, stream: Stream, worker: dict[str, object] | None = None) -> None:
        settings = {"stream": asdict(stream), **({"worker": worker} if worker else {})}
        report.emit({"benchmark": name, **result, "settings": settings}, as_json=self._as_json)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.speed", description=__doc__.split("\n", 1)[0])
    parser.add_argument("--json", action="store_true", help="one object a line, the last one the summary")
    parser.add_argument("--quick", action="store_true", help="shorter: within 5 minutes")
    parser.add_argument("--items", type=_counts, metavar="N,N", help="sizes of the catalogue, smallest first")
    parser.add_argument("--users", type=int, help="users of the stream")
    parser.add_argument("--events", type=int, help="events of the preloaded stream")
    parser.add_argument("--seconds", type=float, help="length of each phase and of each rate")
    given = parser.parse_args(arguments)
    plan = QUICK if given.quick else Plan()
    changes = {name: value for name in ("users", "events") if (value := getattr(given, name)) is not None}
    plan = replace(plan, stream=replace(plan.stream, **changes))
    if given.items:
        plan = replace(plan, catalogues=given.items)
    if given.seconds is not None:
        plan = replace(plan, phase_seconds=given.seconds, freshness_seconds=given.seconds)
    report.emit(Run(plan, as_json=given.json).everything(), as_json=given.json)


def _counts(text: str) -> tuple[int, ...]:
    return tuple(sorted(int(part) for part in text.split(",")))


if __name__ == "__main__":
    main()
