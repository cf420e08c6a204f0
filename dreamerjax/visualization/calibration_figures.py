"""A calibration as pictures and data: belief against reality, and the open loop."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from dreamerjax.core.files import file_faults, write_json
from dreamerjax.diagnostics.calibration import CalibrationReport
from dreamerjax.diagnostics.model_bias import Calibration
from dreamerjax.diagnostics.open_loop import OpenLoop
from dreamerjax.visualization import style
from dreamerjax.visualization.pictures import draw_sheet

if TYPE_CHECKING:
    from matplotlib.axes import Axes

BINS = 8  # groups of equally many states whose means are drawn


def write_calibration(
    report: CalibrationReport, directory: str | Path, step: int, title: str, frame_stack: int = 1
) -> list[Path]:
    """Writes `dream_reality_<step>.png` and its numbers as .json, and what there is of an open loop, into a run's `media`.

    That is `open_loop_<step>.png` of vectors, and `open_loop_images_<step>.png`. `frame_stack` frames lie on the channel axis
    of every image; the newest is shown. Returns the files, pictures first. Raises UserError if one cannot be written; exit code
    1.
    """
    directory = Path(directory)
    paths = [directory / f"dream_reality_{step:09d}.png"]
    _write_comparison(report.calibration, title, paths[0])
    loop = report.open_loop
    if loop is not None and loop.real:
        paths.append(directory / f"open_loop_{step:09d}.png")
        _write_open_loop(loop, title, paths[-1])
    if loop is not None and loop.real_images:
        paths.append(directory / f"open_loop_images_{step:09d}.png")
        with file_faults(paths[-1]):
            draw_sheet(loop.real_images, loop.dreamed_images, frame_stack, title).save(paths[-1])
    numbers = directory / f"dream_reality_{step:09d}.json"
    write_json(numbers, {"metrics": report.metrics, "calibration": vars(report.calibration)})
    return [*paths, numbers]


def binned_means(imagined: np.ndarray, real: np.ndarray, bins: int = BINS) -> tuple[np.ndarray, np.ndarray]:
    """Means of equally large groups of states, in the order of what was imagined: [N], [N] -> [bins or N] each."""
    groups = np.array_split(np.argsort(imagined, kind="stable"), min(bins, len(imagined)))
    return np.array([imagined[group].mean() for group in groups]), np.array([real[group].mean() for group in groups])


def _write_comparison(found: Calibration, title: str, path: Path) -> None:
    with style.figure(13, 4.4, title) as figure:
        returns, alive, reward = figure.subplots(1, 3)
        _draw_returns(returns, found)
        _draw_steps(alive, found.alive_real, found.alive_imagined, "probability of going on")
        _draw_steps(reward, found.reward_real, found.reward_imagined, "reward, 0 after the end")
        for axes in figure.axes:
            axes.legend(fontsize="small")
        style.save(figure, path)


def _draw_returns(axes: Axes, found: Calibration) -> None:
    imagined, real = found.return_imagined, found.return_real
    ends = [min(imagined.min(), real.min()), max(imagined.max(), real.max())]
    axes.plot(ends, ends, **style.REFERENCE, label="imagined = real")
    axes.plot(imagined, real, ".", color=style.REAL, alpha=0.35, label="a state")
    axes.plot(*binned_means(imagined, real), color=style.IMAGINED, marker="o", label="mean of an eighth of the states")
    share = found.bootstrap.mean()
    axes.set_xlabel("imagined return (lambda return)")
    axes.set_ylabel("real return" + (f" ({share:.0%} of the weight is the critic's)" if share else ""))


def _draw_steps(axes: Axes, real: np.ndarray, imagined: np.ndarray, name: str) -> None:
    for values, color, label in ((real, style.REAL, "real"), (imagined, style.IMAGINED, "imagined")):
        axes.plot(np.arange(1, len(values) + 1), values, color=color, marker="o", label=label)
    axes.locator_params(axis="x", integer=True)
    axes.set(xlabel="steps from the state", ylabel=name)


def _write_open_loop(loop: OpenLoop, title: str, path: Path) -> None:
    """One panel for every number of every vector observation."""
    numbers = [(name, index) for name, values in loop.real.items() for index in range(values.shape[1])]
    columns = min(len(numbers), 2)
    rows = -(-len(numbers) // columns)
    with style.figure(13, 1 + 2.2 * rows, title) as figure:
        for place, (name, index) in enumerate(numbers, 1):
            axes = figure.add_subplot(rows, columns, place, ylabel=f"{name}[{index}]")
            _draw_number(axes, loop.real[name][:, index], loop.dreams[name][..., index])
        for axes in figure.axes[:-columns]:
            axes.tick_params(labelbottom=False)
        for axes in figure.axes[-columns:]:
            axes.set_xlabel("step of the episode")
        figure.legend(*figure.axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=4)
        style.save(figure, path)


def _draw_number(axes: Axes, real: np.ndarray, dreams: np.ndarray) -> None:
    start = len(real) - len(dreams)
    predicted, label = np.arange(start, len(real)), "dreams, min to max"
    axes.fill_between(predicted, dreams.min(axis=1), dreams.max(axis=1), color=style.IMAGINED, alpha=0.2, label=label)
    axes.plot(predicted, np.median(dreams, axis=1), color=style.IMAGINED, label="dreams, median")
    axes.plot(real, color=style.REAL, label="reality")
    axes.axvline(start - 0.5, **style.REFERENCE, label="imagination starts")
