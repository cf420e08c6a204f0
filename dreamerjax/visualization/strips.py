"""Images as an agent sees and dreams them, beside each other and large enough to look at."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageChops, ImageOps

from dreamerjax.core.types import Arrays
from dreamerjax.visualization import canvas

FRAME = 3  # pixels around a picture, of the color that says whose it is
SPACE = 12  # pixels between pictures
LABEL = 18  # pixels above a picture
DIFFERENCE = "difference"  # white where two pictures agree
SHEET_STEPS = (1, 2, 5, 10, 15, 25, 50, 75, 100)  # predicted steps on a sheet
SHEET_PICTURE = (192, 128)  # width and height of a picture on it, at most
SHEET_LEFT, SHEET_TOP = 118, 72  # pixels for the words


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


def compared(real: np.ndarray, dreamed: np.ndarray, frame_stack: int, most: tuple[int, int]) -> list[Image.Image]:
    """What is real, what the agent makes of it, and where the two differ (white: nowhere), as large as `fitted` says.

    Args:
        real: uint8 [H, W, C].
        dreamed: [H, W, C] within [0, 1].
        frame_stack: frames on the channel axis; the newest is shown.
        most: width and height of a picture, at most.
    """
    pictures = [picture(real, frame_stack), picture(dreamed, frame_stack)]
    size = fitted(pictures[0].size, most)
    how = Image.Resampling.NEAREST if size >= pictures[0].size else Image.Resampling.BOX
    large = [one.resize(size, how) for one in pictures]
    return [*large, ImageOps.invert(ImageChops.difference(*large))]


def framed(image: Image.Image, color: str) -> Image.Image:
    """A picture with a frame around it."""
    return ImageOps.expand(image, FRAME, color)


def column_size(shape: Sequence[int], most: tuple[int, int]) -> tuple[int, int]:
    """Width and height of `draw_column` for images of this shape [H, W, C]."""
    width, height = fitted((shape[1], shape[0]), most)
    return width + 2 * FRAME + SPACE, 3 * (LABEL + height + 2 * FRAME) + SPACE


def draw_column(pictures: Sequence[Image.Image], labels: Sequence[str], colors: Sequence[str]) -> Image.Image:
    """Pictures of one size one above the other, each with a label above it and a frame of its color."""
    width, height = (side + 2 * FRAME for side in pictures[0].size)
    column = Image.new("RGB", (width + SPACE, len(pictures) * (LABEL + height) + SPACE), canvas.WHITE)
    for number, (one, label, color) in enumerate(zip(pictures, labels, colors, strict=True)):
        top = number * (LABEL + height)
        canvas.write(column, (SPACE, top + LABEL / 2), label, 13)
        column.paste(framed(one, color), (SPACE, top + LABEL))
    return column


def draw_sheet(real: Arrays, dreamed: Arrays, frame_stack: int, title: str, colors: tuple[str, str, str]) -> Image.Image:
    """Rows of what was real, what was dreamed and the difference, for each image; columns of predicted steps.

    Args:
        real: {name: uint8 [P, H, W, C]}, from the first predicted step on.
        dreamed: {name: [P, H, W, C]} within [0, 1].
        frame_stack: frames on the channel axis; the newest is shown.
        title: above everything.
        colors: of the frames of a row each.
    """
    count = len(next(iter(real.values())))
    steps = [step for step in SHEET_STEPS if step <= count]
    blocks: dict[str, list[Image.Image]] = {}
    for name in real:
        cells = [compared(real[name][step - 1], dreamed[name][step - 1], frame_stack, SHEET_PICTURE) for step in steps]
        rows = [[framed(cell[row], color) for cell in cells] for row, color in enumerate(colors)]
        blocks |= {f"{name}, {label}": row for label, row in zip(("real", "dreamed", DIFFERENCE), rows, strict=True)}
    pitch = max(row[0].width for row in blocks.values()) + SPACE
    height = sum(row[0].height + SPACE for row in blocks.values())
    sheet = Image.new("RGB", (SHEET_LEFT + pitch * len(steps), SHEET_TOP + height), canvas.WHITE)
    canvas.write(sheet, (SPACE, 20), title, 16)
    for number, step in enumerate(steps):
        canvas.write(sheet, (SHEET_LEFT + pitch * number, 54), f"step {step}", 13)
    top = SHEET_TOP
    for label, row in blocks.items():
        for line, words in enumerate(label.split(", ")):
            canvas.write(sheet, (SPACE, top + row[0].height / 2 + 16 * line - 8), words, 13)
        for number, cell in enumerate(row):
            sheet.paste(cell, (SHEET_LEFT + pitch * number, top))
        top += row[0].height + SPACE
    return sheet
