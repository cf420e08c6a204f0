"""A dream beside reality, as frames of a video: images and numbers, real and the agent's."""

from __future__ import annotations

import re

import numpy as np
from PIL import Image, ImageChops, ImageOps

from dreamerjax.diagnostics.dream_rollout import DreamRollout
from dreamerjax.visualization import canvas, strips
from dreamerjax.visualization.panels import Curve, Panels, draw_panels
from dreamerjax.visualization.style import GREY, IMAGINED, REAL

FPS = 10.0  # of the video; every step of the episode is a frame
WIDTH, HEADER, SCENES, PANEL = 640, 84, 116, 120  # pixels: of what is beside images, and the heights of its parts, all even
PICTURE = (256, 128)  # width and height of an image, at most
MOST, MOST_IMAGES = 8, 3  # numbers that get a panel, and images that are shown
BORDER = 5
CARTPOLE = re.compile(r"(.*:)?CartPole-v\d+")  # environments whose state is also drawn
CARTPOLE_NUMBERS = ("position, m", "velocity, m/s", "angle, rad", "angular velocity, rad/s")


def draw_dream(dream: DreamRollout, env_id: str, title: str, frame_stack: int = 1) -> list[Image.Image]:
    """One frame of every step: where the dream is, what it expects, images, numbers over time, CartPole's state as a picture.

    Images are to the left: real, the agent's, and where the two differ. Where no number is observed, what the agent expects is
    drawn over time.

    Args:
        dream: what to draw.
        env_id: of the environment: CartPole is drawn.
        title: above everything.
        frame_stack: frames on the channel axis of every image; the newest is shown.

    Returns:
        RGB pictures of one size.
    """
    numbers = [(name, index) for name, values in dream.real.items() for index in range(values.shape[1])]
    is_cartpole = CARTPOLE.fullmatch(env_id) is not None and len(numbers) == len(CARTPOLE_NUMBERS)
    labels = CARTPOLE_NUMBERS if is_cartpole else [f"{name}[{index}]" for name, index in numbers]
    images = list(dream.real_images)[:MOST_IMAGES]
    sizes = [strips.column_size(dream.real_images[name].shape[1:], PICTURE) for name in images]
    left, tall = sum(width for width, _ in sizes), max((height for _, height in sizes), default=0)
    scenes = SCENES if is_cartpole else 0
    panels = _panels(dream, numbers[:MOST], labels[:MOST], tall - scenes)
    size = _even(left + WIDTH), _even(HEADER + max(tall, scenes + panels.full.height))
    title += _hidden(len(numbers), MOST, "numbers") + _hidden(len(dream.real_images), MOST_IMAGES, "images")
    frames = []
    for step in range(len(dream.seen.value)):
        frame = Image.new("RGB", size, canvas.WHITE)
        _draw_header(frame, dream, step, title)
        for number, name in enumerate(images):
            at = sum(width for width, _ in sizes[:number])
            frame.paste(_column(dream, step, name, frame_stack), (at, HEADER))
        if is_cartpole:
            _draw_scenes(frame, dream, step, numbers[0][0], left)
        frame.paste(panels.until(step), (left, HEADER + scenes))
        canvas.border(frame, BORDER, _color(dream, step))
        frames.append(frame)
    return frames


def _panels(dream: DreamRollout, numbers: list[tuple[str, int]], labels: list[str] | tuple[str, ...], height: int) -> Panels:
    """Of the numbers, or of what the agent expects if there are none; at least so high."""
    curves = [
        Curve(label, np.asarray(dream.seen.vectors[name])[:, index], dream.real[name][:, index])
        for (name, index), label in zip(numbers, labels, strict=True)
    ]
    expected = [Curve("value", np.asarray(dream.seen.value)), Curve("probability of going on", np.asarray(dream.seen.alive))]
    columns = 2 if len(curves) > 1 else 1
    shown = curves or expected
    rows = -(-len(shown) // columns)
    return draw_panels(shown, dream.context, columns, (WIDTH, _even(max(PANEL * rows + 40, height))))


def _even(pixels: int) -> int:
    """Rounded up: MP4 wants even sides."""
    return pixels + pixels % 2


def _hidden(count: int, most: int, what: str) -> str:
    return f"   the first {most} of {count} {what}" if count > most else ""


def _color(dream: DreamRollout, step: int) -> str:
    return REAL if step < dream.context else IMAGINED


def _source(dream: DreamRollout, step: int) -> str:
    return "reconstructed" if step < dream.context else "imagined"


def _draw_header(frame: Image.Image, dream: DreamRollout, step: int, title: str) -> None:
    imagined = step - dream.context + 1
    steps = "1 step" if imagined == 1 else f"{imagined} steps"
    where = f"imagination, {steps} without observation" if imagined > 0 else "context, the agent observes"
    canvas.write(frame, (16, 20), title, 13, GREY)
    canvas.write(frame, (16, 44), f"step {step}: {where}", 17, _color(dream, step))
    alive, value = float(dream.seen.alive[step]), float(dream.seen.value[step])
    low, high = min(float(np.min(dream.seen.value)), 0.0), max(float(np.max(dream.seen.value)), 0.0)
    share = (value - low) / ((high - low) or 1.0)
    canvas.bar(frame, (16, 70), 120, alive, f"goes on: {alive:.3f}", _color(dream, step))
    canvas.bar(frame, (WIDTH // 2, 70), 120, share, f"value: {value:.4g}", _color(dream, step))


def _column(dream: DreamRollout, step: int, name: str, frame_stack: int) -> Image.Image:
    """An image: real, the agent's, and where the two differ."""
    dreamed = np.asarray(dream.seen.images[name][step])
    pictures = strips.compared(dream.real_images[name][step], dreamed, frame_stack, PICTURE)
    alone = len(dream.real_images) == 1
    labels = ("real" if alone else f"{name}, real", _source(dream, step), strips.DIFFERENCE)
    return strips.draw_column(pictures, labels, (canvas.PALE, _color(dream, step), canvas.PALE))


def _draw_scenes(frame: Image.Image, dream: DreamRollout, step: int, name: str, left: int) -> None:
    """CartPole's real state, the agent's, and where the two pictures differ."""
    space = 12
    width = (WIDTH - 4 * space) // 3
    states = (values[name][step] for values in (dream.real, dream.seen.vectors))
    pictures = [_without_sky(canvas.cartpole(float(state[0]), float(state[2]), width)) for state in states]
    pictures.append(ImageOps.invert(ImageChops.difference(*pictures)))
    for number, (picture, label) in enumerate(zip(pictures, ("real", _source(dream, step), strips.DIFFERENCE), strict=True)):
        at = left + space + number * (width + space)
        canvas.border(picture, 1, canvas.PALE if number != 1 else _color(dream, step))
        canvas.write(frame, (at, HEADER + 12), label, 13)
        frame.paste(picture, (at, HEADER + 24))


def _without_sky(picture: Image.Image) -> Image.Image:
    """The part of a picture of CartPole in which there is something."""
    return picture.crop((0, round(0.3 * picture.height), picture.width, round(0.93 * picture.height)))
