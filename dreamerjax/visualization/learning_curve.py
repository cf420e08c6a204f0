"""The learning curve of a run as a picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dreamerjax.storage.logger import CHANGED, EPISODE_RETURN
from dreamerjax.visualization import style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLORS = {"greedy": style.REAL, "sampled": style.IMAGINED}
WINDOW = 20  # episodes per point of the training curve's running mean


def write_learning_curve(
    metrics: Sequence[dict[str, Any]], path_png: str | Path, title: str, threshold: float | None = None
) -> None:
    """Draws evaluation (mean, band from minimum to maximum) and training episode returns of lines of metrics.jsonl.

    `threshold` is the return at which the task counts as solved, drawn as a line. Raises UserError if the file cannot be
    written; exit code 1.
    """
    with style.figure(10, 6.25, title, font_size=12) as figure:
        draw_learning_curve(figure, metrics, threshold, columns=3)
        style.save(figure, path_png)


def draw_learning_curve(figure: Figure, metrics: Sequence[dict[str, Any]], threshold: float | None, columns: int) -> None:
    """Fills the figure of `write_learning_curve`, which takes the same arguments; its legend has so many columns."""
    axes = figure.add_subplot(xlabel="environment steps", ylabel="episode return")
    _draw_training(axes, *series(metrics, EPISODE_RETURN))
    for policy in COLORS:
        _draw_evaluation(axes, metrics, policy)
    for step in np.unique(series(metrics, CHANGED)[0]):
        axes.axvline(step, color=style.GREY, linestyle=":", label=f"settings changed at {step:,.0f}")
    if threshold is not None:
        axes.axhline(threshold, **{**style.REFERENCE, "color": style.SOLVED}, label=f"solved at {threshold:g}")
    axes.xaxis.set_major_formatter(style.THOUSANDS)
    if axes.get_legend_handles_labels()[0]:
        figure.legend(loc="outside lower center", ncols=columns)
    else:
        axes.text(0.5, 0.5, "no episode finished", transform=axes.transAxes, ha="center", color=style.GREY)


def series(metrics: Sequence[dict[str, Any]], key: str) -> tuple[np.ndarray, np.ndarray]:
    """Environment steps [n] and values [n] of the lines that have the metric, in their order."""
    points = [(record["env_step"], record[key]) for record in metrics if record.get(key) is not None]
    table = np.array(points, dtype=np.float64).reshape(len(points), 2)
    return table[:, 0], table[:, 1]


def running_mean(steps: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of WINDOW points of a line [n], [n] each, where the last of them lies; empty for fewer."""
    means = np.convolve(values, np.full(WINDOW, 1 / WINDOW), mode="valid") if len(values) >= WINDOW else values[:0]
    return steps[WINDOW - 1 :], means


def _draw_training(axes: Axes, steps: np.ndarray, returns: np.ndarray) -> None:
    if not len(steps):
        return
    axes.plot(steps, returns, ".", color=style.GREY, alpha=0.5, label="training episode")
    if len(returns) >= WINDOW:
        axes.plot(*running_mean(steps, returns), color=style.GREY, linewidth=1.2, label=f"training, mean of {WINDOW}")


def _draw_evaluation(axes: Axes, metrics: Sequence[dict[str, Any]], policy: str) -> None:
    (steps, mean), (low_steps, low), (high_steps, high) = (
        series(metrics, f"eval/{policy}/return_{name}") for name in ("mean", "min", "max")
    )
    if not len(steps):
        return
    label = f"evaluation, {policy}"
    if np.array_equal(low_steps, steps) and np.array_equal(high_steps, steps):
        axes.fill_between(steps, low, high, color=COLORS[policy], alpha=0.13)
        label += " (mean, min to max)"
    axes.plot(steps, mean, color=COLORS[policy], marker="o", label=label)
