"""Images as pictures: the right channels, whole pixels, and where two of them differ."""

from __future__ import annotations

import numpy as np
import pytest

from dreamerjax.visualization import pictures

RNG = np.random.default_rng(0)


@pytest.mark.parametrize(
    ("channels", "frames", "shown"),
    [(1, 1, (0, 0, 0)), (3, 1, (0, 1, 2)), (2, 1, (0, 0, 0)), (4, 1, (0, 1, 2)), (4, 4, (3, 3, 3)), (6, 2, (3, 4, 5))],
)
def test_channels_that_are_shown(channels: int, frames: int, shown: tuple[int, ...]) -> None:
    image = RNG.integers(0, 256, (5, 7, channels), dtype=np.uint8)
    expected = image[..., shown]
    np.testing.assert_array_equal(np.asarray(pictures.picture(image, frames)), expected)
    np.testing.assert_array_equal(np.asarray(pictures.picture((image / 255).astype(np.float32), frames)), expected)


def test_what_is_drawn_beyond_the_range_is_at_its_end() -> None:
    drawn = np.array([-0.2, 0.5, 1.7], np.float32).reshape(1, 1, 3)
    assert pictures.picture(drawn).getpixel((0, 0)) == (0, 128, 255)


@pytest.mark.parametrize(
    ("size", "expected"),
    [((64, 32), (256, 128)), ((64, 64), (128, 128)), ((96, 96), (96, 96)), ((600, 400), (192, 128)), ((1, 900), (1, 128))],
)
def test_sizes(size: tuple[int, int], expected: tuple[int, int]) -> None:
    assert pictures.fitted(size, (256, 128)) == expected


@pytest.mark.parametrize("shape", [(16, 32, 3), (400, 600, 3), (48, 32, 1)])
def test_pictures_beside_each_other(shape: tuple[int, ...]) -> None:
    image = RNG.integers(0, 256, shape, dtype=np.uint8)
    most = (256, 128)
    size = pictures.fitted((shape[1], shape[0]), most)
    same = pictures.compared(image, (image / 255).astype(np.float32), 1, most)
    assert [picture.size for picture in same] == [size] * 3
    assert same[0].tobytes() == same[1].tobytes()
    assert same[2].getextrema() == ((255, 255),) * 3
    opposite = pictures.compared(np.zeros_like(image), np.ones(shape, np.float32), 1, most)
    assert opposite[2].getextrema() == ((0, 0),) * 3
    column = pictures.draw_column(same, ("real", "imagined", "difference"), ("#000000", "#ff0000", "#00ff00"))
    assert column.size == pictures.column_size(shape, most)
