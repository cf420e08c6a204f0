"""A calibration as pictures and data: belief against reality, and the open loop."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from dreamerjax.core.files import file_faults, write_json
from dreamerjax.diagnostics.calibration import CalibrationReport
from dreamerjax.diagnostics.model_bias import Calibration
from dreamerjax.diagnostics.open_loop_prediction import OpenLoop
from dreamerjax.visualization.strips import draw_sheet
from dreamerjax.visualization.style import GREY, IMAGINED, REAL

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BINS = 8  # groups of equally many states whose means are drawn


def write_calibration(
    report: CalibrationReport, directory: str | Path, step: int, title: str, frame_stack: int = 1
) -> list[Path]:
    """Writes `dream_reality_<step>.png` and its numbers as .json, and what there is of an open loop.

    That is `open_loop_<step>.png` of vectors, and `open_loop_images_<step>.png`.

    Args:
        report: what to show.
        directory: an existing one, a run's `media`.
        step: environment steps of the run, for the names; zero-padded to nine digits.
        title: above the plots.
        frame_stack: frames on the channel axis of every image; the newest is shown.

    Returns:
        The files, pictures first.

    Raises:
        UserError: a file cannot be written; exit code 1.
    """
    directory = Path(directory)
    paths = [directory / f"dream_reality_{step:09d}.png"]
    _save(_draw_calibration(report.calibration, title), paths[0])
    loop = report.open_loop
    if loop is not None and loop.real:
        paths.append(directory / f"open_loop_{step:09d}.png")
        _save(_draw_open_loop(loop, title), paths[-1])
    if loop is not None and loop.real_images:
        paths.append(directory / f"open_loop_images_{step:09d}.png")
        sheet = draw_sheet(loop.real_images, loop.dreamed_images, frame_stack, title, (REAL, IMAGINED, GREY))
        with file_faults(paths[-1]):
            sheet.save(paths[-1])
    numbers = directory / f"dream_reality_{step:09d}.json"
    write_json(numbers, {"metrics": report.metrics, "calibration": vars(report.calibration)})
    return [*paths, numbers]


def binned_means(imagined: np.ndarray, real: np.ndarray, bins: int = BINS) -> tuple[np.ndarray, np.ndarray]:
    """Means of equally large groups of states, in the order of what was imagined: [N], [N] -> [bins or N] each."""
    groups = np.array_split(np.argsort(imagined, kind="stable"), min(bins, len(imagined)))
    return np.array([imagined[group].mean() for group in groups]), np.array([real[group].mean() for group in groups])


def _figure(width: float, height: float, title: str) -> Figure:
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # slow to import
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(title, x=0.01, ha="left", fontsize=12, fontweight="bold")
    return figure


def _save(figure: Figure, path: Path) -> None:
    for axes in figure.axes:
        axes.grid(color="#e3e5e8", linewidth=0.8)
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
    with file_faults(path):
        figure.savefig(path)


def _draw_calibration(calibration: Calibration, title: str) -> Figure:
    figure = _figure(13, 4.4, title)
    returns, alive, reward = figure.subplots(1, 3)
    _draw_returns(returns, calibration)
    _draw_steps(alive, calibration.alive_real, calibration.alive_imagined, "probability of going on")
    _draw_steps(reward, calibration.reward_real, calibration.reward_imagined, "reward, 0 after the end")
    return figure


def _draw_returns(axes: Axes, calibration: Calibration) -> None:
    imagined, real = calibration.return_imagined, calibration.return_real
    both = np.concatenate([imagined, real])
    ends = [both.min(), both.max()]
    axes.plot(ends, ends, color=GREY, linestyle="--", linewidth=1.2, label="imagined = real")
    axes.plot(imagined, real, ".", color=REAL, markersize=6, alpha=0.35, markeredgewidth=0, label="a state")
    label = "mean of an eighth of the states"
    axes.plot(*binned_means(imagined, real), color=IMAGINED, linewidth=1.5, marker="o", markersize=5, label=label)
    share = calibration.bootstrap.mean()
    axes.set_xlabel("imagined return (lambda return)")
    axes.set_ylabel("real return" + (f" ({share:.0%} of the weight is the critic's)" if share else ""))
    axes.legend(frameon=False, fontsize=9)


def _draw_steps(axes: Axes, real: np.ndarray, imagined: np.ndarray, name: str) -> None:
    from matplotlib.ticker import MaxNLocator  # slow to import

    steps = np.arange(1, len(real) + 1)
    axes.plot(steps, real, color=REAL, linewidth=2, marker="o", markersize=4, label="real")
    axes.plot(steps, imagined, color=IMAGINED, linewidth=2, marker="o", markersize=4, label="imagined")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel("steps from the state")
    axes.set_ylabel(name)
    axes.legend(frameon=False, fontsize=9)


def _draw_open_loop(loop: OpenLoop, title: str) -> Figure:
    """One panel for every number of every vector observation."""
    numbers = [(name, index) for name, values in loop.real.items() for index in range(values.shape[1])]
    columns = 1 if len(numbers) == 1 else 2
    rows = -(-len(numbers) // columns)
    figure = _figure(13, 1 + 2.2 * rows, title)
    panels = figure.subplots(rows, columns, sharex=True, squeeze=False).flat
    for axes, (name, index) in zip(panels, numbers, strict=False):
        _draw_number(axes, loop.real[name][:, index], loop.dreams[name][..., index])
        axes.set_ylabel(f"{name}[{index}]")
    for axes in list(panels):
        axes.set_visible(False)
    for axes in figure.axes[-columns:]:
        axes.set_xlabel("step of the episode")
    figure.legend(*figure.axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=4, frameon=False, fontsize=9)
    return figure


def _draw_number(axes: Axes, real: np.ndarray, dreams: np.ndarray) -> None:
    start = len(real) - len(dreams)
    predicted = np.arange(start, len(real))
    low, median, high = dreams.min(axis=1), np.median(dreams, axis=1), dreams.max(axis=1)
    axes.fill_between(predicted, low, high, color=IMAGINED, alpha=0.2, linewidth=0, label="dreams, min to max")
    axes.plot(predicted, median, color=IMAGINED, linewidth=1.8, label="dreams, median")
    axes.plot(np.arange(len(real)), real, color=REAL, linewidth=1.8, label="reality")
    axes.axvline(start - 0.5, color=GREY, linestyle="--", linewidth=1.2, label="imagination starts")
