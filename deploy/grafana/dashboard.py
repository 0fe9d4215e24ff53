"""The Grafana dashboard: `python deploy/grafana/dashboard.py` writes dashboards/headrace.json from panels.py.

The JSON is committed, so Grafana needs nothing of this file; a test sees that writing it again changes nothing.
"""

import json
from pathlib import Path

from grafana_foundation_sdk.builders import common, dashboard, prometheus, timeseries
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.common import LegendDisplayMode, LegendPlacement, StackingMode
from grafana_foundation_sdk.models.dashboard import DashboardCursorSync, DataSourceRef, Threshold, ThresholdsMode
from panels import ROWS, Panel, Query

TARGET = Path(__file__).parent / "dashboards" / "headrace.json"
SOURCE = DataSourceRef(type_val="prometheus", uid="headrace-prometheus")
COLUMNS = 3


def build_panel(panel: Panel) -> timeseries.Panel:
    legend = common.VizLegendOptions().show_legend(True).display_mode(LegendDisplayMode.LIST)
    built = (
        timeseries.Panel()
        .title(panel.title)
        .unit(panel.unit)
        .description(f"**Bad:** {panel.bad}\n\n**At three in the morning:** {panel.do}")
        .datasource(SOURCE)
        .legend(legend.placement(LegendPlacement.BOTTOM))
        .min(0)
        .fill_opacity(30 if panel.stacked else 5)
        .span(24 // COLUMNS)
        .height(8)
    )
    if panel.stacked:
        built.stacking(common.StackingConfig().mode(StackingMode.NORMAL))
    if panel.limit is not None:
        steps = [Threshold(value=None, color="green"), Threshold(value=panel.limit, color="red")]
        built.thresholds(dashboard.ThresholdsConfig().mode(ThresholdsMode.ABSOLUTE).steps(steps))
        built.thresholds_style(common.GraphThresholdsStyleConfig().mode("line"))
    for letter, query in zip("ABCDEFGH", panel.queries, strict=False):
        built.with_target(prometheus.Dataquery().ref_id(letter).expr(query.expr).legend_format(legend_of(query)))
    return built


def legend_of(query: Query) -> str:
    """With the worker's address; an alert may be about none."""
    return query.legend if "ALERTS" in query.expr else f"{query.legend}, {{{{instance}}}}"


def build() -> str:
    """The dashboard as Grafana reads it: JSON, the same at every run."""
    board = (
        dashboard.Dashboard("Headrace")
        .uid("headrace")
        .description(
            "A recommender that learns from a stream: is it fresh, does it keep up, is it good, will it survive?"
        )
        .tags(["headrace"])
        .refresh("5s")
        .time("now-15m", "now")
        .timezone("browser")
        .tooltip(DashboardCursorSync.CROSSHAIR)
        .readonly()
    )
    for title, panels in ROWS.items():
        board.with_row(dashboard.Row(title))
        for panel in panels:
            board.with_panel(build_panel(panel))
    resource = board.build()
    for number, placed in enumerate(resource.panels or [], start=1):
        placed.id_val = number  # links to a panel go by this
    return json.dumps(resource, cls=JSONEncoder, indent=2, sort_keys=True) + "\n"


if __name__ == "__main__":
    TARGET.write_text(build())
