"""A calibration as files: readable pictures of any numbers, valid JSON, and the pictures in TensorBoard."""

from __future__ import annotations

import json
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from dreamerjax.core.errors import UserError
from dreamerjax.diagnostics.calibration import CalibrationReport
from dreamerjax.diagnostics.model_bias import Calibration
from dreamerjax.diagnostics.open_loop import OpenLoop
from dreamerjax.storage.logger import RunLogger
from dreamerjax.visualization import pictures
from dreamerjax.visualization.calibration_figures import binned_means, write_calibration
from tests.storage.test_logger import read_events

REAL, IMAGINED, GREY = (0x1B, 0x6C, 0xA8), (0xD9, 0x82, 0x2B), (0x8A, 0x8F, 0x98)
RNG = np.random.default_rng(0)


def examination(
    states: int = 60, sizes: tuple[int, ...] = (4,), predicted: int = 30, image: tuple[int, ...] = (), **changes: Any
) -> CalibrationReport:
    """Random numbers, with a last step of which nothing is known; with a shape also images that are dreamed as they are."""
    steps = np.array([0.9, 0.8, np.nan])
    parts = {
        "return_imagined": RNG.normal(10, 3, states),
        "return_real": RNG.normal(12, 3, states),
        "bootstrap": np.full(states, 0.25),
        "reward_imagined": steps,
        "reward_real": steps + 0.05,
        "alive_imagined": steps,
        "alive_real": steps - 0.05,
    }
    real = {f"key{i}": RNG.normal(size=(5 + predicted, size)) for i, size in enumerate(sizes)}
    dreams = {f"key{i}": RNG.normal(size=(predicted, 8, size)) for i, size in enumerate(sizes)}
    images = {"image": RNG.integers(0, 256, (predicted, *image), dtype=np.uint8)} if image else {}
    drawn = {name: (values / 255).astype(np.float32) for name, values in images.items()}
    loop = OpenLoop(real, dreams, images, drawn) if sizes or image else None
    return CalibrationReport({"gap/states": 60.0}, Calibration(**{**parts, **changes}), loop)


def colors(path: Path) -> set[tuple[int, ...]]:
    """Every color of a picture."""
    with Image.open(path) as image:
        assert image.format == "PNG"
        pixels = np.asarray(image.convert("RGB")).reshape(-1, 3)
    return {tuple(color) for color in np.unique(pixels, axis=0).tolist()}


def test_files(tmp_path: Path) -> None:
    found = examination()
    paths = write_calibration(found, tmp_path, 3000, "CartPole-v1")
    names = ["dream_reality_000003000.png", "open_loop_000003000.png", "dream_reality_000003000.json"]
    assert [path.name for path in paths] == names
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(names)
    for path in paths[:2]:
        assert {REAL, IMAGINED, GREY} <= colors(path)
    numbers = json.loads(paths[2].read_text())
    assert numbers["metrics"] == {"gap/states": 60.0}
    np.testing.assert_array_equal(numbers["calibration"]["return_real"], found.calibration.return_real)
    assert numbers["calibration"]["alive_real"] == [pytest.approx(0.85), pytest.approx(0.75), "NaN"]


@pytest.mark.parametrize("sizes", [(1,), (3,), (2, 3)])
def test_every_number_has_a_panel(tmp_path: Path, sizes: tuple[int, ...]) -> None:
    paths = write_calibration(examination(sizes=sizes, predicted=1), tmp_path, 0, "x")
    with Image.open(paths[1]) as image:
        assert image.height == pytest.approx(120 * (1 + 2.2 * (1 if sum(sizes) == 1 else -(-sum(sizes) // 2))), abs=1)
    assert {REAL, GREY} <= colors(paths[1])


@pytest.mark.parametrize(("sizes", "predicted", "columns"), [((), 1, 1), ((1,), 30, 6), ((), 100, 9)])
def test_images_of_an_open_loop(tmp_path: Path, sizes: tuple[int, ...], predicted: int, columns: int) -> None:
    paths = write_calibration(examination(sizes=sizes, predicted=predicted, image=(32, 64, 3)), tmp_path, 7, "x")
    assert [path.stem for path in paths[1:-1]] == ["open_loop_000000007"] * len(sizes) + ["open_loop_images_000000007"]
    with Image.open(paths[-2]) as sheet:
        width, height = 3 * 64 + 2 * pictures.FRAME + pictures.SPACE, 3 * 32 + 2 * pictures.FRAME + pictures.SPACE
        assert sheet.size == (pictures.SHEET_LEFT + columns * width, pictures.SHEET_TOP + 3 * height)
        place = (pictures.SHEET_LEFT + pictures.FRAME, pictures.SHEET_TOP + 2 * height + pictures.FRAME)
        difference = sheet.crop((*place, place[0] + 3 * 64, place[1] + 3 * 32))
    assert difference.getextrema() == ((255, 255),) * 3  # white: dreamed as it was
    assert {REAL, IMAGINED, GREY} <= colors(paths[-2])


@pytest.mark.parametrize("states", [1, 3, 60])
def test_few_or_equal_states_are_enough(tmp_path: Path, states: int) -> None:
    equal = examination(states, (), return_imagined=np.ones(states), return_real=np.ones(states))
    paths = write_calibration(equal, tmp_path, 0, "x")
    assert [path.name for path in paths] == ["dream_reality_000000000.png", "dream_reality_000000000.json"]
    assert IMAGINED in colors(paths[0])


def test_binned_means() -> None:
    imagined, real = binned_means(np.array([4.0, 1.0, 3.0, 2.0]), np.array([40.0, 10.0, 30.0, 20.0]), bins=2)
    np.testing.assert_array_equal(imagined, [1.5, 3.5])
    np.testing.assert_array_equal(real, [15.0, 35.0])
    assert len(binned_means(np.ones(3), np.ones(3))[0]) == 3


def test_unwritable_file_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"cannot write .*missing/media/dream_reality_000000001.png: No such file or directory"):
        write_calibration(examination(), tmp_path / "missing" / "media", 1, "x")


def test_pictures_reach_tensorboard(tmp_path: Path) -> None:
    path = write_calibration(examination(), tmp_path, 7, "x")[0]
    with closing(RunLogger(tmp_path)) as logger:
        logger.events.image(7, "gap/dream_reality", path.read_bytes())
        logger.events.image(8, "again", path.read_bytes())
        with pytest.raises(ValueError, match="broken: not a PNG"):
            logger.events.image(9, "broken", b"GIF89a")
    first, second = (event for event in read_events(tmp_path) if event.HasField("summary"))
    assert (first.step, second.step) == (7, 8)
    (value,), (other,) = first.summary.value, second.summary.value
    assert (value.tag, other.tag) == ("gap/dream_reality", "again")
    with Image.open(path) as image:
        assert (value.image.width, value.image.height) == image.size
        assert value.image.colorspace == len(image.getbands())
    assert value.image.encoded_image_string == other.image.encoded_image_string == path.read_bytes()
