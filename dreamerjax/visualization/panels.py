"""Curves of a dream that grow from frame to frame of a video."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageDraw

from dreamerjax.visualization.style import GREY, IMAGINED, REAL

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.backends.backend_agg import FigureCanvasAgg


@dataclass(frozen=True)
class Curve:
    """A number over the steps of a dream."""

    label: str
    seen: np.ndarray  # [steps] the agent's
    real: np.ndarray | None = None  # [steps]; None: only the agent has such a number


@dataclass(frozen=True)
class Panels:
    """The plots, with and without what is plotted, and where each of them is: a frame is a cut from both."""

    empty: Image.Image
    full: Image.Image
    boxes: list[tuple[int, int, int, int]]  # left, top, right, bottom
    steps: list[np.ndarray]  # pixels from the left of each step

    def until(self, step: int) -> Image.Image:
        """The plots as far as a step, with a line where it is."""
        image = self.empty.copy()
        for (left, top, _, bottom), steps in zip(self.boxes, self.steps, strict=True):
            now = round(steps[step])
            image.paste(self.full.crop((left, top, now + 1, bottom)), (left, top))
            ImageDraw.Draw(image).line((now, top, now, bottom), fill=GREY)
        return image


def draw_panels(curves: Sequence[Curve], context: int, columns: int, size: tuple[int, int]) -> Panels:
    """A panel for every curve.

    Args:
        curves: at least one; all of the same length.
        context: the step from which on they are imagined.
        columns: of panels.
        size: width and height in pixels of all panels together.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg as Canvas  # slow to import
    from matplotlib.figure import Figure

    figure = Figure(figsize=(size[0] / 100, size[1] / 100), dpi=100, layout="constrained")
    drawn = Canvas(figure)
    figure.get_layout_engine().set(w_pad=0.12, h_pad=0.1)  # type: ignore[union-attr, call-arg]
    panels: list[Axes] = list(figure.subplots(-(-len(curves) // columns), columns, sharex=True, squeeze=False).flat)
    for axes, curve in zip(panels, curves, strict=False):
        _plot(axes, curve, context)
    for axes in panels[len(curves) :]:
        axes.set_visible(False)
    panels = panels[: len(curves)]
    for axes in panels[-columns:]:
        axes.tick_params(labelbottom=True)
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=3, frameon=False, fontsize=8)
    full = _image(drawn)
    for line in (line for axes in panels for line in axes.lines):
        line.set_visible(False)
    count = len(curves[0].seen)
    steps = np.stack([np.arange(count), np.zeros(count)], axis=1)
    extents = [axes.get_window_extent() for axes in panels]
    boxes = [(round(e.x0), round(full.height - e.y1), round(e.x1), round(full.height - e.y0)) for e in extents]
    return Panels(_image(drawn), full, boxes, [axes.transData.transform(steps)[:, 0] for axes in panels])


def _plot(axes: Axes, curve: Curve, context: int) -> None:
    real = curve.seen if curve.real is None else curve.real
    count, span = len(real), float(np.ptp(real)) or 1.0
    both = np.clip(np.concatenate([real, curve.seen]), real.min() - span, real.max() + span)  # a dream may go anywhere
    margin = 0.05 * (float(np.ptp(both)) or 1.0)
    if curve.real is not None:
        axes.plot(curve.real, color=REAL, linewidth=1.5, label="real")
    axes.plot(curve.seen, color=IMAGINED, linewidth=1.5, label="the agent's")
    axes.axvspan(context - 0.5, count, color=IMAGINED, alpha=0.1, linewidth=0, label="imagination")
    axes.set_xlim(-0.5, count - 0.5)
    axes.set_ylim(both.min() - margin, both.max() + margin)
    axes.set_title(curve.label, fontsize=8, loc="left", pad=3)
    axes.tick_params(labelsize=7, length=2)
    axes.spines[["top", "right"]].set_visible(False)


def _image(drawn: FigureCanvasAgg) -> Image.Image:
    drawn.draw()
    return Image.fromarray(np.asarray(drawn.buffer_rgba())[..., :3].copy())
