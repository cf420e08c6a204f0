"""Images as an agent sees and dreams them, beside each other, labelled, and large enough to look at."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import numpy as np
from PIL import Image, ImageChops, ImageDraw, ImageFont, ImageOps

from dreamerjax.core.types import Arrays
from dreamerjax.visualization.style import BLACK, GREY, IMAGINED, REAL, WHITE

FRAME = 3  # pixels around a picture, of the color that says whose it is
SPACE = 12  # pixels between pictures
LABEL = 18  # pixels above a picture
TEXT = 13  # pixels, the height of most text
DIFFERENCE = "difference"  # white where two pictures agree
SHEET_STEPS = (1, 2, 5, 10, 15, 25, 50, 75, 100)  # predicted steps on a sheet
SHEET_PICTURE = (192, 128)  # width and height of a picture on it, at most
SHEET_LEFT, SHEET_TOP = 118, 72  # pixels for the words


@cache
def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)


def write(image: Image.Image, at: tuple[float, float], text: str, size: int = TEXT, color: str = BLACK) -> None:
    """Writes text `size` pixels high, whose left middle is `at`."""
    ImageDraw.Draw(image).text(at, text, fill=color, font=_font(size), anchor="lm")


def picture(image: np.ndarray, frame_stack: int = 1) -> Image.Image:
    """An image [H, W, C], uint8 or within [0, 1], in RGB; of stacked frames the newest.

    Of two channels the first is shown in gray, of more than three the first three in color.
    """
    channels = image.shape[-1] // frame_stack
    pixels = image if image.dtype == np.uint8 else np.round(255.0 * np.clip(image, 0.0, 1.0)).astype(np.uint8)
    newest = pixels[..., -channels:]
    shown = newest[..., :3] if channels >= 3 else np.repeat(newest[..., :1], 3, axis=-1)
    return Image.fromarray(np.ascontiguousarray(shown))


def fitted(size: tuple[int, int], most: tuple[int, int]) -> tuple[int, int]:
    """Width and height enlarged by the largest whole number with which they fit; reduced where they do not fit as they are."""
    scale = min(most[0] / size[0], most[1] / size[1])
    scale = float(int(scale)) if scale >= 1.0 else scale
    return max(1, round(scale * size[0])), max(1, round(scale * size[1]))


def with_difference(real: Image.Image, agents: Image.Image) -> list[Image.Image]:
    """Both pictures, and where they differ; white: nowhere."""
    return [real, agents, ImageOps.invert(ImageChops.difference(real, agents))]


def compared(real: np.ndarray, dreamed: np.ndarray, frame_stack: int, most: tuple[int, int]) -> list[Image.Image]:
    """What is real, what the agent makes of it, and where the two differ (white: nowhere), as large as `fitted` says.

    `real` is uint8 [H, W, C], `dreamed` [H, W, C] within [0, 1]; of `frame_stack` frames on the channel axis the newest is
    shown.
    """
    first, second = picture(real, frame_stack), picture(dreamed, frame_stack)
    size = fitted(first.size, most)
    how = Image.Resampling.NEAREST if size >= first.size else Image.Resampling.BOX
    return with_difference(first.resize(size, how), second.resize(size, how))


def labelled(image: Image.Image, label: str, color: str) -> Image.Image:
    """A picture with a frame around it and a label above."""
    framed = ImageOps.expand(image, FRAME, color)
    whole = Image.new("RGB", (framed.width, LABEL + framed.height), WHITE)
    whole.paste(framed, (0, LABEL))
    write(whole, (0, LABEL / 2), label)
    return whole


def column_size(shape: Sequence[int], most: tuple[int, int]) -> tuple[int, int]:
    """Width and height of `draw_column` for images of this shape [H, W, C]."""
    width, height = fitted((shape[1], shape[0]), most)
    return width + 2 * FRAME + SPACE, 3 * (LABEL + height + 2 * FRAME) + SPACE


def draw_column(pictures: Sequence[Image.Image], labels: Sequence[str], colors: Sequence[str]) -> Image.Image:
    """Pictures of one size one above the other, each with a label above it and a frame of its color."""
    parts = [labelled(*part) for part in zip(pictures, labels, colors, strict=True)]
    column = Image.new("RGB", (SPACE + parts[0].width, sum(part.height for part in parts) + SPACE), WHITE)
    for number, part in enumerate(parts):
        column.paste(part, (SPACE, number * part.height))
    return column


def draw_sheet(real: Arrays, dreamed: Arrays, frame_stack: int, title: str) -> Image.Image:
    """Rows of what was real, what was dreamed and the difference, for each image; columns of predicted steps.

    `real` is {name: uint8 [P, H, W, C]}, from the first predicted step on, `dreamed` {name: [P, H, W, C]} within [0, 1].
    """
    steps = [step for step in SHEET_STEPS if step <= len(next(iter(real.values())))]
    rows: list[tuple[str, list[Image.Image]]] = []
    for name in real:
        columns = [compared(real[name][step - 1], dreamed[name][step - 1], frame_stack, SHEET_PICTURE) for step in steps]
        kinds = (("real", REAL), ("dreamed", IMAGINED), (DIFFERENCE, GREY))
        for (kind, color), row in zip(kinds, zip(*columns, strict=True), strict=True):
            rows.append((f"{name}\n{kind}", [ImageOps.expand(cell, FRAME, color) for cell in row]))
    pitch = max(cells[0].width for _, cells in rows) + SPACE
    height = sum(cells[0].height + SPACE for _, cells in rows)
    sheet = Image.new("RGB", (SHEET_LEFT + pitch * len(steps), SHEET_TOP + height), WHITE)
    write(sheet, (SPACE, 20), title, 16)
    for number, step in enumerate(steps):
        write(sheet, (SHEET_LEFT + pitch * number, 54), f"step {step}")
    top = SHEET_TOP
    for label, cells in rows:
        write(sheet, (SPACE, top + cells[0].height / 2), label)
        for number, cell in enumerate(cells):
            sheet.paste(cell, (SHEET_LEFT + pitch * number, top))
        top += cells[0].height + SPACE
    return sheet
