"""The pictures of a report: learning curves per arm, the primary metric per arm, a heat map of a grid."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dreamerjax.core.formatting import number
from dreamerjax.experiment.analysis import ArmResult
from dreamerjax.experiment.design import Metric
from dreamerjax.experiment.statistics import common_grid, estimate
from dreamerjax.visualization import style

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Curves = Sequence[tuple[np.ndarray, np.ndarray]]  # x [n] and y [n] of each seed
LABEL = 70  # most characters of an arm's name in a picture


def draw_curves(path: Path, arms: Sequence[tuple[str, Curves]], *, title: str, metric: Metric, confidence: float) -> None:
    """Interquartile mean with its pointwise interval per arm, every seed as a thin line, the budget as a dashed one.

    With more arms than colours only the interquartile means are drawn.

    Raises UserError: the file cannot be written; exit code 1.
    """
    unit, apart = metric.budget.value, len(arms) <= len(style.COLORS)
    labels = [f"{_short(name)} ({len(seeds)} seed{'s' * (len(seeds) != 1)})" for name, seeds in arms]
    columns = 1 if any(len(label) > 45 for label in labels) else 2
    key = f"interquartile mean{f', {confidence:.0%} interval (band), seeds (thin)' if apart else ''}:"
    with style.figure(9.0, 5.4 + 0.25 * len(arms) / columns, title) as figure:
        axes = figure.add_subplot(xlabel=unit, ylabel=metric.name)
        for place, (label, (_, seeds), color) in enumerate(zip(labels, arms, _colors(len(arms)), strict=True)):
            grid, curves = common_grid(seeds)
            middle, low, high = estimate(curves.T, confidence)
            if apart:
                for x, y in seeds:
                    axes.plot(x, y, color=color, linewidth=0.8, alpha=0.3)
                axes.fill_between(grid, low, high, color=color, alpha=0.18)
            line, marker = "-" if apart else style.LINES[place % len(style.LINES)], "o" if len(grid) < 2 else None
            axes.plot(grid, middle, color=color, linestyle=line, label=label, marker=marker)
        axes.axvline(metric.at, **style.REFERENCE, label=f"compared at {metric.at:,} {unit}")
        axes.xaxis.set_major_formatter(style.THOUSANDS)
        figure.legend(loc="outside lower left", ncols=columns, title=key, alignment="left")
        style.save(figure, path)


def draw_metric(path: Path, arms: Sequence[ArmResult], *, title: str, metric: str) -> None:
    """Every seed as a dot, the interquartile mean as a diamond with its interval; beside them the grid, if there is one.

    Raises UserError: the file cannot be written; exit code 1.
    """
    levels, height = _swept_levels(arms), 1.8 + 0.45 * len(arms)
    size = (13.0, max(height, 4.5)) if levels else (9.0, max(height, 2.4))
    with style.figure(*size, title) as figure:
        axes, *beside = figure.subplots(1, 2 if levels else 1, squeeze=False)[0]
        for row, (arm, color) in enumerate(zip(arms, _colors(len(arms)), strict=True)):
            axes.plot(arm.values, np.full(len(arm.values), row + 0.16), "o", color=color, alpha=0.55)
            axes.plot([arm.middle.low, arm.middle.high], [row - 0.16] * 2, color=color, solid_capstyle="butt")
            axes.plot(arm.middle.value, row - 0.16, "D", color=color, markersize=8)
        axes.set_yticks(range(len(arms)), [_short(arm.arm.name) for arm in arms])
        axes.set_ylim(len(arms) - 0.4, -0.6)
        axes.set_xlabel(f"{metric}\nseeds (dots), interquartile mean with interval (diamond)")
        if levels:
            _draw_grid(beside[0], arms, levels, metric)
        style.save(figure, path)


def _swept_levels(arms: Sequence[ArmResult]) -> dict[str, list[str]]:
    """The levels of a grid over exactly two swept keys, with two levels of each or more; else nothing."""
    points = [dict(arm.arm.levels) for arm in arms]
    keys = dict.fromkeys(key for point in points for key in point)
    if len(keys) != 2 or any(len(point) != 2 for point in points):
        return {}
    levels = {key: list(dict.fromkeys(point[key] for point in points)) for key in keys}
    rows, columns = map(len, levels.values())
    whole = min(rows, columns) >= 2 and len(arms) >= rows * columns / 2
    return levels if whole else {}  # not a line, nor a random sweep, in which hardly any pair of levels meets


def _draw_grid(axes: Axes, arms: Sequence[ArmResult], levels: dict[str, list[str]], metric: str) -> None:
    """Interquartile means as a heat map; empty where a pair of levels has none."""
    (row_key, rows), (column_key, columns) = levels.items()
    values = np.full((len(rows), len(columns)), np.nan)
    for arm in arms:
        point = dict(arm.arm.levels)
        values[rows.index(point[row_key]), columns.index(point[column_key])] = arm.middle.value
    image = axes.imshow(np.ma.masked_invalid(values), aspect="auto")
    axes.set_xticks(range(len(columns)), columns)
    axes.set_yticks(range(len(rows)), rows)
    axes.set(xlabel=column_key, ylabel=row_key)
    axes.grid(visible=False)
    for (row, column), value in np.ndenumerate(values):
        dark = value < sum(image.get_clim()) / 2
        axes.text(column, row, number(value), ha="center", va="center", color="white" if dark else "black")
    axes.figure.colorbar(image, ax=axes, label=f"{metric}, interquartile mean")


def _colors(count: int) -> Sequence[Any]:
    if count <= len(style.COLORS):
        return style.COLORS[:count]
    from matplotlib import colormaps

    return [colormaps[style.COLOR_MAP](place) for place in np.linspace(0, 0.9, count)]


def _short(label: str) -> str:
    return label if len(label) <= LABEL else label[: LABEL - 3] + "..."
