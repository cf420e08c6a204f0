"""The learning curve of a run as a picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dreamerjax.core.files import file_faults
from dreamerjax.visualization.style import GREY

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

TRAINING = "episode/return"
COLORS = {"greedy": "#1b6ca8", "sampled": "#d9822b"}
SIZE = (8.0, 5.0)  # inches
WINDOW = 20  # episodes per point of the training curve's running mean


def write_learning_curve(
    metrics: Sequence[dict[str, Any]], path_png: str | Path, title: str, threshold: float | None = None
) -> None:
    """Draws evaluation (mean, band from minimum to maximum) and training episode returns against environment steps.

    Args:
        metrics: lines of metrics.jsonl, see `logs.read_metrics`.
        path_png: the file to write.
        title: above the plot.
        threshold: return at which the task counts as solved, drawn as a line; None for none.

    Raises:
        UserError: the file cannot be written; exit code 1.
    """
    figure = draw_learning_curve(metrics, title, threshold)
    with file_faults(Path(path_png)):
        figure.savefig(path_png)


def draw_learning_curve(
    metrics: Sequence[dict[str, Any]], title: str, threshold: float | None, size: tuple[float, float] = SIZE
) -> Figure:
    """The figure of `write_learning_curve`, which takes the same arguments; `size` is width and height in inches."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # slow to import
    from matplotlib.figure import Figure

    figure = Figure(figsize=size, dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    _draw_training(axes, *series(metrics, TRAINING))
    for policy in COLORS:
        _draw_evaluation(axes, metrics, policy)
    if threshold is not None:
        axes.axhline(threshold, color="#3a7d44", linestyle="--", linewidth=1.2, label=f"solved at {threshold:g}")
    axes.set_title(title, loc="left", fontsize=13, fontweight="bold")
    axes.set_xlabel("environment steps", fontsize=11)
    axes.set_ylabel("episode return", fontsize=11)
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    axes.grid(axis="y", color="#e3e5e8", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    if axes.get_legend_handles_labels()[0]:
        figure.legend(frameon=False, fontsize=10, loc="outside lower center", ncols=3 if size[0] >= SIZE[0] else 2)
    else:
        axes.text(0.5, 0.5, "no episode finished", transform=axes.transAxes, ha="center", color=GREY)
    return figure


def series(metrics: Sequence[dict[str, Any]], key: str) -> tuple[np.ndarray, np.ndarray]:
    """Environment steps [n] and values [n] of the lines that have the metric, in their order."""
    points = [(record["env_step"], record[key]) for record in metrics if record.get(key) is not None]
    table = np.array(points, dtype=np.float64).reshape(len(points), 2)
    return table[:, 0], table[:, 1]


def _draw_training(axes: Axes, steps: np.ndarray, returns: np.ndarray) -> None:
    if not len(steps):
        return
    axes.plot(steps, returns, ".", color=GREY, markersize=5, alpha=0.5, markeredgewidth=0, label="training episode")
    if len(returns) >= WINDOW:
        mean = np.convolve(returns, np.full(WINDOW, 1 / WINDOW), mode="valid")
        axes.plot(steps[WINDOW - 1 :], mean, color=GREY, linewidth=1.2, label=f"training, mean of {WINDOW}")


def _draw_evaluation(axes: Axes, metrics: Sequence[dict[str, Any]], policy: str) -> None:
    prefix = f"eval/{policy}/return_"
    steps, mean = series(metrics, prefix + "mean")
    if not len(steps):
        return
    label = f"evaluation, {policy}"
    low_steps, low = series(metrics, prefix + "min")
    high_steps, high = series(metrics, prefix + "max")
    if np.array_equal(low_steps, steps) and np.array_equal(high_steps, steps):
        axes.fill_between(steps, low, high, color=COLORS[policy], alpha=0.13, linewidth=0)
        label += " (mean, min to max)"
    axes.plot(steps, mean, color=COLORS[policy], linewidth=2, marker="o", markersize=3.5, label=label)
