"""Drawing on frames of videos: text, bars, borders, and CartPole as gymnasium draws it."""

from __future__ import annotations

import math
from functools import cache

from PIL import Image, ImageDraw, ImageFont

Point = tuple[float, float]
WHITE, BLACK, PALE = "#ffffff", "#22262b", "#e3e5e8"
POLE, AXLE = (202, 152, 101), (129, 132, 203)  # gymnasium's colors
VIEW = (600, 400)  # pixels of gymnasium's picture of CartPole, in which the sizes below are
TRACK = 4.8  # meters from its left to its right end
CART, CART_HEIGHT, TRACK_HEIGHT = (50, 30), 100, 100
POLE_WIDTH, POLE_LENGTH = 10, VIEW[0] / TRACK  # the pole is one meter long
FINE = 4  # pictures are drawn so many times larger first: smooth edges


@cache
def font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """Pillow's own font, `size` pixels high."""
    return ImageFont.load_default(size)


def write(image: Image.Image, at: Point, text: str, size: int, color: str = BLACK) -> None:
    """Writes a line of text whose left middle is `at`."""
    ImageDraw.Draw(image).text(at, text, fill=color, font=font(size), anchor="lm")


def bar(image: Image.Image, at: Point, width: int, share: float, text: str, color: str) -> None:
    """Draws a bar of which `share`, 0 to 1, is filled; its left middle is `at`, and the text is to its right."""
    draw, (x, y), height = ImageDraw.Draw(image), at, 5
    filled = min(max(share, 0.0), 1.0) * width
    draw.rectangle((x, y - height, x + width, y + height), fill=PALE)
    draw.rectangle((x, y - height, x + filled, y + height), fill=color)
    write(image, (x + width + 8, y), text, 13)


def border(image: Image.Image, width: int, color: str) -> None:
    """Draws a border inside the image."""
    ImageDraw.Draw(image).rectangle((0, 0, image.width - 1, image.height - 1), outline=color, width=width)


def cartpole(position: float, angle: float, width: int) -> Image.Image:
    """CartPole-v1 in a state that need not be one of the simulator's; what is off the track is off the picture.

    Args:
        position: of the cart, in meters from the middle of the track.
        angle: of the pole, in radians from upright, to the right.
        width: of the picture, in pixels; its height is two thirds of it.
    """
    scale = FINE * width / VIEW[0]
    image = Image.new("RGB", (FINE * width, round(scale * VIEW[1])), WHITE)
    draw = ImageDraw.Draw(image)

    def at(x: float, y: float) -> Point:
        """In the picture; y is the middle of a row of pixels, counted upwards as gymnasium does."""
        return scale * x, scale * (VIEW[1] - 0.5 - y)

    middle, axle = position * VIEW[0] / TRACK + VIEW[0] / 2, CART_HEIGHT + CART[1] / 4
    draw.line((at(0, TRACK_HEIGHT), at(VIEW[0], TRACK_HEIGHT)), fill=BLACK, width=FINE)
    left, right, bottom, top = middle - CART[0] / 2, middle + CART[0] / 2, CART_HEIGHT - CART[1] / 2, CART_HEIGHT + CART[1] / 2
    draw.rectangle((*at(left, top), *at(right, bottom)), fill=BLACK)
    half, sine, cosine = POLE_WIDTH / 2, math.sin(angle), math.cos(angle)
    corners = [(-half, -half), (-half, POLE_LENGTH - half), (half, POLE_LENGTH - half), (half, -half)]
    draw.polygon([at(middle + x * cosine + y * sine, axle + y * cosine - x * sine) for x, y in corners], fill=POLE)
    draw.ellipse((*at(middle - half, axle + half), *at(middle + half, axle - half)), fill=AXLE)
    return image.resize((width, image.height // FINE), Image.Resampling.BOX)
