"""The diagrams of a report, as SVG: learning curves, and a panel for each group of metrics."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import TYPE_CHECKING, Any

import numpy as np

from dreamerjax.storage.logger import EPISODE_RETURN
from dreamerjax.visualization import style
from dreamerjax.visualization.learning_curve import WINDOW, draw_learning_curve, running_mean, series

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST_POINTS = 1_000  # of a line; a longer one becomes the smallest and the largest of each of half as many groups
LONG_NAME = 26  # characters of a metric beside which there is no room for another one


@dataclass(frozen=True)
class Panel:
    """Metrics that belong in one diagram."""

    title: str
    unit: str  # of the vertical axis
    metrics: tuple[str, ...]
    dots: tuple[str, ...] = ()  # metrics of the examinations: few, so drawn as dots
    log: bool = False  # logarithmic where all values are positive
    zero: bool = False  # a line at 0
    only_changing: bool = False  # left out where every metric is constant

    @property
    def all_metrics(self) -> tuple[str, ...]:
        """Lines, then dots."""
        return (*self.metrics, *self.dots)


PANELS = (
    Panel(
        "Values and returns",
        "discounted return",
        ("dream/value_mean", "dream/return_mean", "critic/replay_value"),
        dots=("gap/return_imagined", "gap/return_real"),
    ),
    Panel("The critic's lag", "normalised return", ("dream/critic_lag", "actor/advantage_magnitude"), zero=True),
    Panel("Randomness", "share of the largest", ("actor/randomness", "explore/share", "model/posterior_randomness")),
    Panel("KL and what dynamics learn from it", "nats", ("loss/dynamics", "model/kl"), dots=("gap/kl",), log=True),
    Panel(
        "Losses of the world model",
        "loss, before its weight",
        ("loss/decoder", "loss/reward", "loss/continue_", "loss/representation"),
        log=True,
    ),
    Panel("Losses of the critic", "nats", ("loss/critic", "loss/replay_critic"), log=True),
    Panel("Loss of the actor", "loss", ("loss/actor",), zero=True),
    Panel("Return scale", "return", ("dream/return_scale",)),
    Panel(
        "Gradient norms",
        "norm before clipping",
        ("gradient_norm/world_model", "gradient_norm/actor", "gradient_norm/critic"),
        log=True,
    ),
    Panel("How long dreams last", "probability", ("dream/continue_3", "dream/weight_last", "batch/terminal_rate")),
    Panel("Entropy of the latents", "nats", ("model/prior_entropy", "model/posterior_entropy")),
    Panel("Surprise", "log ratio", ("wm/surprise/total_log_ratio", "wm/surprise/max_component_log_ratio"), zero=True),
    Panel(
        "Pacing",
        "share of the updates",
        ("pacing/model", "pacing/behavior", "pacing/focus", "pacing/camp", "pacing/kl_pause"),
        only_changing=True,
    ),
)


def learning_curve(records: Sequence[dict[str, Any]], threshold: float | None) -> bytes:
    """SVG of the returns of evaluations and training episodes."""
    with style.figure(7.2, 4.4) as figure:
        draw_learning_curve(figure, records, threshold, columns=2)
        return _svg(figure)


def draw_panel(panel: Panel, records: Sequence[dict[str, Any]]) -> bytes | None:
    """SVG of a panel; None where none of its metrics was logged, or has a finite value."""
    lines = {name: _finite(*series(records, name)) for name in panel.all_metrics}
    lines = {name: line for name, line in lines.items() if len(line[0])}
    if not lines or (panel.only_changing and all(np.ptp(values) == 0 for _, values in lines.values())):
        return None
    with style.figure(5.2, 3.3, panel.title, font_size=9) as figure:
        axes = figure.add_subplot(xlabel="environment steps", ylabel=panel.unit)
        for name, color in zip(panel.all_metrics, style.COLORS, strict=False):
            if name in lines:
                if name in panel.dots:
                    axes.plot(*lines[name], "o", color=color, label=name, zorder=3)
                else:
                    _draw_line(axes, name, *lines[name], color=color, marker="o" if len(lines[name][0]) == 1 else None)
        if panel.zero:
            axes.axhline(0, color=style.GREY, linewidth=1)
        return _finished(figure, lines, log=panel.log)


def overlay(metric: str, runs: Mapping[str, Sequence[dict[str, Any]]], *, large: bool = False) -> bytes | None:
    """SVG of one metric of several runs, by their labels; None where none of them logged it. A legend has only a `large` one.

    Of training episodes the mean of WINDOW is drawn.
    """
    lines = {label: _finite(*series(records, metric)) for label, records in runs.items()}
    if metric == EPISODE_RETURN:
        lines = {label: running_mean(*line) for label, line in lines.items()}
    if not any(len(steps) for steps, _ in lines.values()):
        return None
    title = f"{metric}, mean of {WINDOW}" if metric == EPISODE_RETURN else metric
    with style.figure(*((7.2, 4.4, "", 10) if large else (5.2, 3.0, title, 9))) as figure:
        axes = figure.add_subplot(xlabel="environment steps", ylabel=title if large else "")
        for place, (label, (steps, values)) in enumerate(lines.items()):
            color, line = style.COLORS[place % len(style.COLORS)], style.LINES[place // len(style.COLORS) % len(style.LINES)]
            marker = "o" if large or len(steps) == 1 else None
            _draw_line(axes, label, steps, values, color=color, linestyle=line, marker=marker)
        log = any(panel.log and metric in panel.metrics for panel in PANELS)
        return _finished(figure, lines, log=log, legend=large)


def thinned(steps: np.ndarray, values: np.ndarray, most: int = MOST_POINTS) -> tuple[np.ndarray, np.ndarray]:
    """At most so many points of a line [n], [n] that keep its peaks: of each group the smallest and the largest."""
    if len(steps) <= most:
        return steps, values
    groups = np.array_split(np.arange(len(steps)), most // 2)
    chosen = [index for group in groups for index in sorted((group[values[group].argmin()], group[values[group].argmax()]))]
    return steps[chosen], values[chosen]


def _finite(steps: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return steps[np.isfinite(values)], values[np.isfinite(values)]


def _draw_line(axes: Axes, label: str, steps: np.ndarray, values: np.ndarray, **looks: Any) -> None:
    axes.plot(*thinned(steps, values), linewidth=1.5, label=label, **looks)


def _finished(figure: Figure, lines: Mapping[str, tuple[np.ndarray, np.ndarray]], *, log: bool, legend: bool = True) -> bytes:
    """Logarithmic if it is to be and all values are positive; with steps on the horizontal axis, and a legend below."""
    from matplotlib.ticker import LogLocator

    (axes,) = figure.axes
    if log and all((values > 0).all() for _, values in lines.values()):
        axes.set_yscale("log")
        low, high = axes.get_ylim()
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if high / low < 1000 else (1,)))
        axes.yaxis.set_major_formatter("{x:g}")
        axes.yaxis.set_minor_formatter("")
    axes.locator_params(axis="x", nbins=5, integer=True)
    axes.xaxis.set_major_formatter(style.THOUSANDS)
    if legend:
        figure.legend(loc="outside lower left", ncols=1 if max(map(len, lines)) > LONG_NAME else 2)
    return _svg(figure)


def _svg(figure: Figure) -> bytes:
    """The same bytes for the same figure."""
    file = BytesIO()
    figure.savefig(file, format="svg", metadata={"Date": None, "Creator": None})
    return file.getvalue()
