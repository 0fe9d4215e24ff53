"""Pictures as PNG: HR@10 over a stream, and how rates grow. Needs matplotlib, which comes with an extra."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")  # no screen is needed, nor looked for

from matplotlib import pyplot as plt
from matplotlib.patheffects import withStroke
from matplotlib.ticker import NullLocator

from benchmarks.report import short


def plot_curves(
    path: Path, title: str, curves: Mapping[str, Sequence[float]], *, ours: frozenset[str], events: int
) -> None:
    """One PNG at `path`; each curve is the HR@10 of equal slices of the stream. Ours are drawn thick, peers dashed."""
    figure, axes = plt.subplots(figsize=(9.0, 5.0), dpi=110)
    colours = plt.get_cmap("tab20")
    for number, (name, values) in enumerate(curves.items()):
        places = [(place + 0.5) * events / len(values) for place in range(len(values))]
        own = name in ours
        axes.plot(
            places,
            values,
            label=name,
            color=colours((2 * number) % 20 + (2 * number) // 20),
            linewidth=2.0 if own else 1.1,
            linestyle="-" if own else "--",
        )
    axes.set_xlabel("events")
    axes.set_ylabel("HR@10 of each slice of the stream")
    axes.set_title(title)
    axes.set_ylim(bottom=0.0)
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False, fontsize=8)
    _save(figure, path)


@dataclass(frozen=True)
class Panel:
    """One small plot: what runs along its logarithmic axis, and its lines by name, the main one first."""

    along: str
    lines: Mapping[str, Sequence[tuple[int, float, str]]]
    """(place, height, what is written beside the point)."""


def plot_panels(path: Path, title: str, panels: Sequence[Panel]) -> None:
    """One PNG at `path`: panels two by two, heights from 0, one legend for all."""
    rows = ceil(len(panels) / 2)
    figure, axes_R2 = plt.subplots(rows, 2, figsize=(9.0, 0.8 + 2.7 * rows), dpi=110, squeeze=False)
    for axes, panel in zip(axes_R2.flat, panels, strict=False):
        _draw_panel(axes, panel)
    for axes in axes_R2.flat[len(panels) :]:
        axes.set_visible(False)
    figure.suptitle(title, fontsize=11)
    figure.legend(*axes_R2[0, 0].get_legend_handles_labels(), loc="lower center", ncols=2, frameon=False, fontsize=9)
    figure.tight_layout(rect=(0.0, 0.05, 1.0, 1.0))
    _save(figure, path)


def _draw_panel(axes: Any, panel: Panel) -> None:
    axes.set_xscale("log")
    highest = [
        max(range(len(panel.lines)), key=[point[1] for point in points].__getitem__)
        for points in zip(*panel.lines.values(), strict=True)
    ]
    for number, (name, points) in enumerate(panel.lines.items()):
        places, heights, _ = zip(*points, strict=True)
        (line,) = axes.plot(places, heights, "o-", label=name, linewidth=2.0 - 0.6 * number, markersize=4)
        for (place, height, note), uppermost in zip(points, highest, strict=True):
            axes.annotate(
                note,
                (place, height),
                xytext=(0, 6 if number == uppermost else -12),  # above the line, or below it
                textcoords="offset points",
                ha="center",
                fontsize=7,
                color=line.get_color(),
                path_effects=[withStroke(linewidth=2.5, foreground="white")],  # to be read where a line passes
            )
        axes.set_xticks(places, [short(place) for place in places])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.margins(x=0.12)
    axes.set_ylim(0.0, 1.2 * axes.dataLim.ymax)
    axes.set_xlabel(panel.along)
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)


def _save(figure: Any, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, bbox_inches="tight", metadata={"Software": None})
    plt.close(figure)
