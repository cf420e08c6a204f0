"""A dream beside reality, as frames of a video: images and numbers, real and the agent's."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from io import BytesIO
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from PIL import Image, ImageDraw

from dreamerjax.diagnostics.open_loop import DreamRollout
from dreamerjax.visualization import pictures, style
from dreamerjax.visualization.cartpole import draw_cartpole
from dreamerjax.visualization.pictures import DIFFERENCE, FRAME, SPACE, write
from dreamerjax.visualization.style import GREY, IMAGINED, PALE, REAL

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FPS = 10.0  # of the video; every step of the episode is a frame
WIDTH, HEADER, SCENES, PANEL = 640, 84, 116, 120  # pixels: of what is beside images, and the heights of its parts, all even
PICTURE = (256, 128)  # width and height of an image, at most
MOST, MOST_IMAGES = 8, 3  # numbers that get a panel, and images that are shown
BORDER, BAR = 5, (120, 10)  # pixels
CARTPOLE = re.compile(r"(.*:)?CartPole-v\d+")  # environments whose state is also drawn
CARTPOLE_NUMBERS = ("position, m", "velocity, m/s", "angle, rad", "angular velocity, rad/s")


class Curve(NamedTuple):
    """A number over the steps of a dream."""

    label: str
    seen: np.ndarray  # [steps] the agent's
    real: np.ndarray | None = None  # [steps]; None: only the agent has such a number


def draw_dream(dream: DreamRollout, env_id: str, title: str, frame_stack: int = 1) -> list[Image.Image]:
    """One RGB picture of every step: where the dream is, what it expects, images, numbers over time, CartPole's state.

    Images are to the left: real, the agent's, and where the two differ. Where no number is observed, what the agent expects is
    drawn over time. `frame_stack` frames lie on the channel axis of every image; the newest is shown.
    """
    numbers = [(name, index) for name, values in dream.real.items() for index in range(values.shape[1])]
    is_cartpole = CARTPOLE.fullmatch(env_id) is not None and len(numbers) == len(CARTPOLE_NUMBERS)
    labels = CARTPOLE_NUMBERS if is_cartpole else [f"{name}[{index}]" for name, index in numbers]
    curves = [
        Curve(label, np.asarray(dream.seen.vectors[name])[:, index], dream.real[name][:, index])
        for (name, index), label in zip(numbers[:MOST], labels, strict=False)
    ] or [Curve("value", np.asarray(dream.seen.value)), Curve("probability of going on", np.asarray(dream.seen.alive))]
    images = list(dream.real_images)[:MOST_IMAGES]
    sizes = [pictures.column_size(dream.real_images[name].shape[1:], PICTURE) for name in images]
    left, tall = sum(width for width, _ in sizes), max((height for _, height in sizes), default=0)
    scenes = SCENES if is_cartpole else 0
    columns = 2 if len(numbers) > 1 else 1
    height = _even(max(PANEL * -(-len(curves) // columns) + 40, tall - scenes))
    size = _even(left + WIDTH), _even(HEADER + max(tall, scenes + height))
    title += _hidden(len(numbers), MOST, "numbers") + _hidden(len(dream.real_images), MOST_IMAGES, "images")
    frames = []
    for step, panels in enumerate(_panels(curves, dream.context, columns, height)):
        frame = Image.new("RGB", size, style.WHITE)
        _draw_header(frame, dream, step, title)
        for number, name in enumerate(images):
            at = sum(width for width, _ in sizes[:number])
            frame.paste(_column(dream, step, name, frame_stack), (at, HEADER))
        if is_cartpole:
            _draw_scenes(frame, dream, step, numbers[0][0], left)
        frame.paste(panels, (left, HEADER + scenes))
        edge = (0, 0, frame.width - 1, frame.height - 1)
        ImageDraw.Draw(frame).rectangle(edge, outline=_whose(dream, step)[1], width=BORDER)
        frames.append(frame)
    return frames


def _even(pixels: int) -> int:
    """Rounded up: MP4 wants even sides."""
    return pixels + pixels % 2


def _hidden(count: int, most: int, what: str) -> str:
    return f"   the first {most} of {count} {what}" if count > most else ""


def _whose(dream: DreamRollout, step: int) -> tuple[str, str]:
    """What the agent's pictures of a step are, and their colour."""
    return ("reconstructed", REAL) if step < dream.context else ("imagined", IMAGINED)


def _draw_header(frame: Image.Image, dream: DreamRollout, step: int, title: str) -> None:
    imagined, (_, color) = step - dream.context + 1, _whose(dream, step)
    steps = "1 step" if imagined == 1 else f"{imagined} steps"
    where = f"imagination, {steps} without observation" if imagined > 0 else "context, the agent observes"
    write(frame, (16, 20), title, color=GREY)
    write(frame, (16, 44), f"step {step}: {where}", 17, color)
    alive, value = float(dream.seen.alive[step]), float(dream.seen.value[step])
    low, high = min(float(np.min(dream.seen.value)), 0.0), max(float(np.max(dream.seen.value)), 0.0)
    _draw_bar(frame, 16, alive, f"goes on: {alive:.3f}", color)
    _draw_bar(frame, WIDTH // 2, (value - low) / ((high - low) or 1.0), f"value: {value:.4g}", color)


def _draw_bar(frame: Image.Image, left: int, share: float, text: str, color: str) -> None:
    """A bar of which `share`, 0 to 1, is filled, in the header; the text is to its right."""
    draw, (width, height), top = ImageDraw.Draw(frame), BAR, HEADER - 14 - BAR[1] // 2
    draw.rectangle((left, top, left + width, top + height), fill=PALE)
    draw.rectangle((left, top, left + min(max(share, 0.0), 1.0) * width, top + height), fill=color)
    write(frame, (left + width + 8, top + height // 2), text)


def _column(dream: DreamRollout, step: int, name: str, frame_stack: int) -> Image.Image:
    """An image: real, the agent's, and where the two differ."""
    source, color = _whose(dream, step)
    dreamed = np.asarray(dream.seen.images[name][step])
    shown = pictures.compared(dream.real_images[name][step], dreamed, frame_stack, PICTURE)
    real = "real" if len(dream.real_images) == 1 else f"{name}, real"
    return pictures.draw_column(shown, (real, source, DIFFERENCE), (PALE, color, PALE))


def _draw_scenes(frame: Image.Image, dream: DreamRollout, step: int, name: str, left: int) -> None:
    """CartPole's real state, the agent's, and where the two pictures differ; the empty sky is cut off."""
    source, color = _whose(dream, step)
    pitch = (WIDTH - SPACE) // 3
    width = pitch - SPACE - 2 * FRAME
    states = (values[name][step] for values in (dream.real, dream.seen.vectors))
    real, agents = (draw_cartpole(float(state[0]), float(state[2]), width) for state in states)
    shown = pictures.with_difference(real, agents)
    parts = zip(shown, ("real", source, DIFFERENCE), (PALE, color, PALE), strict=True)
    for number, (scene, label, edge) in enumerate(parts):
        scene = scene.crop((0, round(0.3 * scene.height), width, round(0.93 * scene.height)))
        frame.paste(pictures.labelled(scene, label, edge), (left + SPACE + number * pitch, HEADER))


def _panels(curves: Sequence[Curve], context: int, columns: int, height: int) -> Iterator[Image.Image]:
    """Plots of all curves as far as each step, with a line where it is: cuts from the plots with and without their lines.

    The curves are of one length and imagined from step `context` on; `height` is that of all plots, in pixels.
    """
    with style.figure(WIDTH / style.DPI, height / style.DPI, font_size=6) as figure:
        figure.get_layout_engine().set(w_pad=0.1, h_pad=0.08)  # type: ignore[union-attr, call-arg]
        for place, curve in enumerate(curves, 1):
            _plot(figure.add_subplot(-(-len(curves) // columns), columns, place), curve, context)
        for axes in figure.axes[:-columns]:
            axes.tick_params(labelbottom=False)
        figure.legend(*figure.axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
        full = _drawn(figure)
        for line in (line for axes in figure.axes for line in axes.lines):
            line.set_visible(False)
        empty = _drawn(figure)
    for step in range(len(curves[0].seen)):
        image = empty.copy()
        for axes in figure.axes:
            box, now = axes.get_window_extent(), round(axes.transData.transform((step, 0))[0])
            left, top, bottom = round(box.x0), round(full.height - box.y1), round(full.height - box.y0)
            image.paste(full.crop((left, top, now + 1, bottom)), (left, top))
            ImageDraw.Draw(image).line((now, top, now, bottom), fill=GREY)
        yield image


def _plot(axes: Axes, curve: Curve, context: int) -> None:
    real = curve.seen if curve.real is None else curve.real
    span = float(np.ptp(real)) or 1.0
    both = np.clip(np.concatenate([real, curve.seen]), real.min() - span, real.max() + span)  # a dream may go anywhere
    margin = 0.05 * (float(np.ptp(both)) or 1.0)
    if curve.real is not None:
        axes.plot(curve.real, color=REAL, linewidth=1.2, label="real")
    axes.plot(curve.seen, color=IMAGINED, linewidth=1.2, label="the agent's")
    axes.axvspan(context - 0.5, len(real), color=IMAGINED, alpha=0.1, label="imagination")
    axes.set(xlim=(-0.5, len(real) - 0.5), ylim=(both.min() - margin, both.max() + margin), title=curve.label)


def _drawn(figure: Figure) -> Image.Image:
    content = BytesIO()
    figure.savefig(content, format="png")
    return Image.open(content).convert("RGB")
