"""The pictures of a report: learning curves per arm, the primary metric per arm, a heat map of a grid."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dreamerjax.core.formatting import number
from dreamerjax.experiment.design import Budget
from dreamerjax.experiment.results import UNITS
from dreamerjax.experiment.statistics import Estimate, band, common_grid
from dreamerjax.visualization import style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LINES = ("-", "--", ":")  # in turn, where there are more arms than colours
LABEL = 70  # most characters of an arm's name in a picture


@dataclass(frozen=True)
class ArmCurves:
    """The learning curves (x [n], y [n]) of an arm, one per seed."""

    label: str
    runs: tuple[tuple[np.ndarray, np.ndarray], ...]


@dataclass(frozen=True)
class ArmValues:
    """The primary metric of an arm: one value per seed [n] and their interquartile mean with its interval."""

    label: str
    values: np.ndarray
    middle: Estimate


@dataclass(frozen=True)
class Grid:
    """Interquartile means [rows, columns] of a sweep over two keys; NaN where there is none."""

    row_key: str
    column_key: str
    rows: tuple[str, ...]
    columns: tuple[str, ...]
    values: np.ndarray


def draw_curves(
    path: Path, arms: Sequence[ArmCurves], *, title: str, metric: str, budget: Budget, at: float, confidence: float
) -> None:
    """Interquartile mean with its pointwise interval per arm, every seed as a thin line, the budget as a dashed one.

    With more arms than colours only the interquartile means are drawn.

    Raises:
        UserError: the file cannot be written; exit code 1.
    """
    columns = 1 if any(len(_legend(arm)) > 45 for arm in arms) else 2
    apart = len(arms) <= len(style.COLORS)
    key = f"interquartile mean{f', {confidence:.0%} interval (band), seeds (thin)' if apart else ''}:"
    with style.figure(9.0, 5.4 + 0.25 * len(arms) / columns, title) as figure:
        axes = figure.add_subplot(xlabel=UNITS[budget], ylabel=metric)
        for place, (arm, color) in enumerate(zip(arms, _colors(len(arms)), strict=True)):
            _draw_arm(axes, arm, color, "-" if apart else LINES[place % len(LINES)], confidence, apart=apart)
        axes.axvline(at, **style.REFERENCE, label=f"compared at {at:,.0f} {UNITS[budget]}")
        axes.xaxis.set_major_formatter(style.THOUSANDS)
        figure.legend(loc="outside lower left", ncols=columns, title=key, alignment="left")
        style.save(figure, path)


def draw_metric(path: Path, arms: Sequence[ArmValues], *, title: str, metric: str, grid: Grid | None) -> None:
    """Every seed as a dot, the interquartile mean as a diamond with its interval; beside them the grid, if there is one.

    Raises:
        UserError: the file cannot be written; exit code 1.
    """
    height = 1.8 + 0.45 * len(arms)
    size = (9.0, max(height, 2.4)) if grid is None else (13.0, max(height, 4.5))
    with style.figure(*size, title) as figure:
        axes, *beside = figure.subplots(1, 1 if grid is None else 2, squeeze=False)[0]
        for row, (arm, color) in enumerate(zip(arms, _colors(len(arms)), strict=True)):
            axes.plot(arm.values, np.full(len(arm.values), row + 0.16), "o", color=color, alpha=0.55)
            axes.plot([arm.middle.low, arm.middle.high], [row - 0.16] * 2, color=color, solid_capstyle="butt")
            axes.plot(arm.middle.value, row - 0.16, "D", color=color, markersize=8)
        axes.set_yticks(range(len(arms)), [_short(arm.label) for arm in arms])
        axes.set_ylim(len(arms) - 0.4, -0.6)
        axes.set_xlabel(f"{metric}\nseeds (dots), interquartile mean with interval (diamond)")
        if grid is not None:
            _draw_grid(figure, beside[0], grid, metric)
        style.save(figure, path)


def _draw_arm(axes: Axes, arm: ArmCurves, color: Any, line: str, confidence: float, *, apart: bool) -> None:
    grid, curves = common_grid(arm.runs)
    middle, low, high = band(curves, confidence)
    if apart:
        for x, y in arm.runs:
            axes.plot(x, y, color=color, linewidth=0.8, alpha=0.3)
        axes.fill_between(grid, low, high, color=color, alpha=0.18)
    axes.plot(grid, middle, color=color, linestyle=line, label=_legend(arm), marker="o" if len(grid) < 2 else None)


def _draw_grid(figure: Figure, axes: Axes, grid: Grid, metric: str) -> None:
    image = axes.imshow(np.ma.masked_invalid(grid.values), aspect="auto")
    axes.set_xticks(range(len(grid.columns)), grid.columns)
    axes.set_yticks(range(len(grid.rows)), grid.rows)
    axes.set(xlabel=grid.column_key, ylabel=grid.row_key)
    axes.grid(visible=False)
    for (row, column), value in np.ndenumerate(grid.values):
        dark = value < sum(image.get_clim()) / 2
        axes.text(column, row, number(value), ha="center", va="center", color="white" if dark else "black")
    figure.colorbar(image, ax=axes, label=f"{metric}, interquartile mean")


def _colors(count: int) -> Sequence[Any]:
    if count <= len(style.COLORS):
        return style.COLORS[:count]
    from matplotlib import colormaps

    return [colormaps[style.COLOR_MAP](place) for place in np.linspace(0, 0.9, count)]


def _legend(arm: ArmCurves) -> str:
    return f"{_short(arm.label)} ({len(arm.runs)} seed{'s' * (len(arm.runs) != 1)})"


def _short(label: str) -> str:
    return label if len(label) <= LABEL else label[: LABEL - 3] + "..."
