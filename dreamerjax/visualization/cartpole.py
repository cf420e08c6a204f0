"""CartPole as gymnasium draws it, but in any state, and without a package for it."""

from __future__ import annotations

import math

from PIL import Image, ImageDraw

from dreamerjax.visualization.style import BLACK, WHITE

POLE, AXLE = (202, 152, 101), (129, 132, 203)  # gymnasium's colors
VIEW = (600, 400)  # pixels of gymnasium's picture, in which the sizes below are
TRACK = 4.8  # meters from its left to its right end
CART, CART_HEIGHT, TRACK_HEIGHT = (50, 30), 100, 100
POLE_WIDTH, POLE_LENGTH = 10, VIEW[0] / TRACK  # the pole is one meter long
FINE = 4  # the picture is drawn so many times larger first: smooth edges


def draw_cartpole(position: float, angle: float, width: int) -> Image.Image:
    """CartPole-v1 in a state that need not be one of the simulator's; what is off the track is off the picture.

    Args:
        position: of the cart, in meters from the middle of the track.
        angle: of the pole, in radians from upright, to the right.
        width: of the picture, in pixels; its height is two thirds of it.
    """
    scale = FINE * width / VIEW[0]
    image = Image.new("RGB", (FINE * width, round(scale * VIEW[1])), WHITE)
    draw = ImageDraw.Draw(image)

    def at(x: float, y: float) -> tuple[float, float]:
        """In the picture; y is the middle of a row of pixels, counted upwards as gymnasium does."""
        return scale * x, scale * (VIEW[1] - 0.5 - y)

    middle, axle = position * VIEW[0] / TRACK + VIEW[0] / 2, CART_HEIGHT + CART[1] / 4
    draw.line((at(0, TRACK_HEIGHT), at(VIEW[0], TRACK_HEIGHT)), fill=BLACK, width=FINE)
    half_width, half_height = CART[0] / 2, CART[1] / 2
    top_left, bottom_right = (middle - half_width, CART_HEIGHT + half_height), (middle + half_width, CART_HEIGHT - half_height)
    draw.rectangle((*at(*top_left), *at(*bottom_right)), fill=BLACK)
    half, sine, cosine = POLE_WIDTH / 2, math.sin(angle), math.cos(angle)
    corners = [(-half, -half), (-half, POLE_LENGTH - half), (half, POLE_LENGTH - half), (half, -half)]
    draw.polygon([at(middle + x * cosine + y * sine, axle + y * cosine - x * sine) for x, y in corners], fill=POLE)
    draw.ellipse((*at(middle - half, axle + half), *at(middle + half, axle - half)), fill=AXLE)
    return image.resize((width, image.height // FINE), Image.Resampling.BOX)
