"""A dream beside reality: the agent is shown the beginning of an episode, then imagines on with the episode's own actions."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import jax
import numpy as np
from PIL import Image, ImageChops, ImageDraw, ImageOps

from dreamerjax import canvas, dreams
from dreamerjax.dreams import Watched
from dreamerjax.episodes import PlayedEpisode
from dreamerjax.errors import UserError
from dreamerjax.examination import PREDICTED, pad
from dreamerjax.media import GREY, IMAGINED, REAL
from dreamerjax.networks.build import Networks
from dreamerjax.pytrees import Params
from dreamerjax.types import Arrays

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.backends.backend_agg import FigureCanvasAgg

CONTEXT = 20  # observations that a dream starts from; of a shorter episode, half of them
FPS = 10.0  # of the video; every step of the episode is a frame
WIDTH, HEADER, SCENES, PANEL = 640, 84, 116, 120  # pixels: of the video, and the heights of its parts, all of them even
MOST = 8  # numbers that get a panel
BORDER = 5
CARTPOLE = re.compile(r"(.*:)?CartPole-v\d+")  # environments whose state is also drawn
CARTPOLE_NUMBERS = ("position, m", "velocity, m/s", "angle, rad", "angular velocity, rad/s")


@dataclass(frozen=True)
class Dream:
    """L observed and P imagined steps of one episode."""

    context: int  # L
    real: Arrays  # {name: [L + P, size]} vector observations
    seen: Watched  # NumPy; what the agent reads from its latents: of the filter for L steps, of the prior for P


class _Panels(NamedTuple):
    """The plots, with and without what is plotted, and where each of them is."""

    empty: Image.Image
    full: Image.Image
    boxes: list[tuple[int, int, int, int]]  # left, top, right, bottom
    steps: list[np.ndarray]  # pixels from the left of each step [L + P]


def dream_along(networks: Networks, params: dict[str, Params], episode: PlayedEpisode, gamma: float, seed: int) -> Dream:
    """Dream one episode after its first CONTEXT observations, for up to PREDICTED steps.

    Args:
        networks: of the agent.
        params: `world_model` and `critic` are used.
        episode: a held-out one of at least one step.
        gamma: the discount, which the continue head carries.
        seed: of the dream.

    Raises:
        UserError: the agent observes no vector.
    """
    names = [name for name, spec in networks.spec.observations.items() if spec.is_vector]
    if not names:
        raise UserError("dream=true: the environment has no vector observation, and nothing else can be drawn yet")
    context = max(1, min(CONTEXT, len(episode) // 2))
    count = min(PREDICTED, len(episode) + 1 - context)
    rng = np.random.Generator(np.random.PCG64(seed))
    uniforms = (rng.random((length, 1, 1, networks.rssm.groups), np.float32) for length in (context, count))
    watch = jax.jit(partial(dreams.watch, networks))
    parts = {name: params[name] for name in ("world_model", "critic")}
    actions = pad([episode], context, count)[1]
    seen = watch(parts, *pad([episode], 0, context), actions, *uniforms, gamma=np.float32(gamma))
    real = {name: episode.observations[name][: context + count] for name in names}
    return Dream(context, real, jax.tree.map(np.asarray, seen))


def draw_dream(dream: Dream, env_id: str, title: str) -> list[Image.Image]:
    """One frame of every step: where the dream is, what it expects, every number over time, and CartPole's state as a picture.

    Args:
        dream: what to draw.
        env_id: of the environment: CartPole is drawn.
        title: above everything.

    Returns:
        RGB pictures of one size.
    """
    numbers = [(name, index) for name, values in dream.real.items() for index in range(values.shape[1])]
    is_cartpole = CARTPOLE.fullmatch(env_id) is not None and len(numbers) == len(CARTPOLE_NUMBERS)
    labels = CARTPOLE_NUMBERS if is_cartpole else [f"{name}[{index}]" for name, index in numbers]
    panels = _draw_panels(dream, numbers[:MOST], labels[:MOST])
    hidden = f"   the first {MOST} of {len(numbers)} numbers" if len(numbers) > MOST else ""
    scenes = SCENES if is_cartpole else 0
    frames = []
    for step in range(len(dream.seen.value)):
        frame = Image.new("RGB", (WIDTH, HEADER + scenes + panels.full.height), canvas.WHITE)
        _draw_header(frame, dream, step, title + hidden)
        if is_cartpole:
            _draw_scenes(frame, dream, step, numbers[0][0])
        frame.paste(_panels_until(panels, step), (0, HEADER + scenes))
        canvas.border(frame, BORDER, _color(dream, step))
        frames.append(frame)
    return frames


def _color(dream: Dream, step: int) -> str:
    return REAL if step < dream.context else IMAGINED


def _draw_header(frame: Image.Image, dream: Dream, step: int, title: str) -> None:
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


def _draw_scenes(frame: Image.Image, dream: Dream, step: int, name: str) -> None:
    """CartPole's real state, the agent's, and where the two pictures differ."""
    space = 12
    width = (WIDTH - 4 * space) // 3
    states = (values[name][step] for values in (dream.real, dream.seen.vectors))
    pictures = [_without_sky(canvas.cartpole(float(state[0]), float(state[2]), width)) for state in states]
    pictures.append(ImageOps.invert(ImageChops.difference(*pictures)))
    source = "reconstructed" if step < dream.context else "imagined"
    for number, (picture, label) in enumerate(zip(pictures, ("real", source, "difference"), strict=True)):
        left = space + number * (width + space)
        canvas.border(picture, 1, canvas.PALE if number != 1 else _color(dream, step))
        canvas.write(frame, (left, HEADER + 12), label, 13)
        frame.paste(picture, (left, HEADER + 24))


def _without_sky(picture: Image.Image) -> Image.Image:
    """The part of a picture of CartPole in which there is something."""
    return picture.crop((0, round(0.3 * picture.height), picture.width, round(0.93 * picture.height)))


def _draw_panels(dream: Dream, numbers: list[tuple[str, int]], labels: list[str] | tuple[str, ...]) -> _Panels:
    """All plots twice, so that a frame is a cut from both instead of a figure of its own."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg as Canvas  # slow to import
    from matplotlib.figure import Figure

    columns = 1 if len(numbers) == 1 else 2
    rows = -(-len(numbers) // columns)
    figure = Figure(figsize=(WIDTH / 100, (PANEL * rows + 40) / 100), dpi=100, layout="constrained")
    drawn = Canvas(figure)
    figure.get_layout_engine().set(w_pad=0.12, h_pad=0.1)  # type: ignore[union-attr, call-arg]
    panels: list[Axes] = list(figure.subplots(rows, columns, sharex=True, squeeze=False).flat)
    for axes, (name, index), label in zip(panels, numbers, labels, strict=False):
        _plot(axes, dream, dream.real[name][:, index], np.asarray(dream.seen.vectors[name])[:, index], label)
    for axes in panels[len(numbers) :]:
        axes.set_visible(False)
    panels = panels[: len(numbers)]
    for axes in panels[-columns:]:
        axes.tick_params(labelbottom=True)
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=3, frameon=False, fontsize=8)
    full = _image(drawn)
    for line in (line for axes in panels for line in axes.lines):
        line.set_visible(False)
    steps = np.stack([np.arange(len(dream.seen.value)), np.zeros(len(dream.seen.value))], axis=1)
    extents = [axes.get_window_extent() for axes in panels]
    boxes = [(round(e.x0), round(full.height - e.y1), round(e.x1), round(full.height - e.y0)) for e in extents]
    return _Panels(_image(drawn), full, boxes, [axes.transData.transform(steps)[:, 0] for axes in panels])


def _plot(axes: Axes, dream: Dream, real: np.ndarray, seen: np.ndarray, label: str) -> None:
    count, span = len(real), float(np.ptp(real)) or 1.0
    both = np.clip(np.concatenate([real, seen]), real.min() - span, real.max() + span)  # a dream may go anywhere
    margin = 0.05 * (float(np.ptp(both)) or 1.0)
    axes.plot(real, color=REAL, linewidth=1.5, label="real")
    axes.plot(seen, color=IMAGINED, linewidth=1.5, label="the agent's")
    axes.axvspan(dream.context - 0.5, count, color=IMAGINED, alpha=0.1, linewidth=0, label="imagination")
    axes.set_xlim(-0.5, count - 0.5)
    axes.set_ylim(both.min() - margin, both.max() + margin)
    axes.set_title(label, fontsize=8, loc="left", pad=3)
    axes.tick_params(labelsize=7, length=2)
    axes.spines[["top", "right"]].set_visible(False)


def _image(drawn: FigureCanvasAgg) -> Image.Image:
    drawn.draw()
    return Image.fromarray(np.asarray(drawn.buffer_rgba())[..., :3].copy())


def _panels_until(panels: _Panels, step: int) -> Image.Image:
    """The plots as far as a step, with a line where it is."""
    image = panels.empty.copy()
    for (left, top, _, bottom), steps in zip(panels.boxes, panels.steps, strict=True):
        now = round(steps[step])
        image.paste(panels.full.crop((left, top, now + 1, bottom)), (left, top))
        ImageDraw.Draw(image).line((now, top, now, bottom), fill=GREY)
    return image
