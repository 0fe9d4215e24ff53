"""HR@10 over a stream, a line a row, as PNG."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")  # no screen is needed, nor looked for

from matplotlib import pyplot as plt


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
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, bbox_inches="tight", metadata={"Software": None})
    plt.close(figure)
