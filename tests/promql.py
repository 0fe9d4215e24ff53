"""What a PromQL expression asks for, judged against the metrics that the worker has."""

from collections.abc import Mapping
from typing import NamedTuple

import promql_parser
from prometheus_client import CollectorRegistry

from consumer.metrics import Metrics

OF_PROMETHEUS = {"up": {"job", "instance"}, "ALERTS": {"alertname", "alertstate", "severity"}}
LABELS_OF_PROMETHEUS = {"job", "instance", "le"}
SUFFIXES = {
    "counter": ("_total",),
    "gauge": ("",),
    "histogram": ("_bucket", "_sum", "_count"),
    "summary": ("_sum", "_count"),
    "info": ("_info",),
}


class Selector(NamedTuple):
    metric: str
    labels: frozenset[str]
    """Names of labels that it is filtered by."""


def series_of_the_worker() -> dict[str, set[str]]:
    """The name of every series that /metrics can show -> the names of its own labels."""
    registry = CollectorRegistry()
    Metrics(registry)
    # Only metrics made with labels have the attribute; the library has no public way to ask.
    labels = {
        name: set(getattr(metric, "_labelnames", ()))
        for metric, names in registry._collector_to_names.items()
        for name in names
    }
    series = [family.name + suffix for family in registry.collect() for suffix in SUFFIXES[family.type]]
    return {name: labels.get(name, set()) for name in series}


def selectors(expression: str) -> tuple[list[Selector], set[str]]:
    """What the expression selects, and the labels that it groups by. ValueError where it does not parse."""
    found: list[Selector] = []
    grouped: set[str] = set()

    def visit(node: promql_parser.Expr) -> None:
        if isinstance(node, promql_parser.VectorSelector):
            found.append(Selector(node.name, frozenset(matcher.name for matcher in node.matchers.matchers)))
        elif isinstance(node, promql_parser.AggregateExpr) and node.modifier is not None:
            grouped.update(node.modifier.labels)

    promql_parser.walk(promql_parser.parse(expression.replace("$__rate_interval", "1m")), visit)
    return found, grouped


def complaints(expression: str, series: Mapping[str, set[str]]) -> list[str]:
    """What is wrong with the expression: it does not parse, or names a metric or a label that is not there."""
    try:
        found, grouped = selectors(expression)
    except ValueError as error:
        return [f"{expression}: {error}"]
    known = {**series, **OF_PROMETHEUS}
    wrong = [f"{expression}: there is no metric {one.metric}" for one in found if one.metric not in known]
    there = LABELS_OF_PROMETHEUS.union(*(known.get(one.metric, set()) for one in found))
    asked = grouped.union(*(one.labels for one in found))
    return wrong + [f"{expression}: there is no label {label}" for label in sorted(asked - there)]
