"""The learning curve: a readable PNG from any metrics."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from dreamerjax.core.errors import UserError
from dreamerjax.visualization.learning_curve import write_learning_curve


def learning(steps: int = 8_000) -> list[dict[str, Any]]:
    """Metrics of a run that learns CartPole."""
    generator = np.random.default_rng(0)
    metrics: list[dict[str, Any]] = []
    step = 0
    while step < steps:
        length = int(np.clip(generator.normal(20 + 450 * (step / steps) ** 2, 15 + 60 * step / steps), 9, 500))
        step += length
        metrics.append({"env_step": step, "update": step // 4, "episode/return": float(length)})
    for step in range(0, steps, 500):
        record: dict[str, Any] = {"env_step": step, "update": step // 4}
        for policy, offset in (("greedy", 30.0), ("sampled", 0.0)):
            mean = min(500.0, 20 + 480 * (step / steps) ** 1.6 + offset)
            spread = {"min": max(9.0, mean - 70), "max": min(500.0, mean + 70), "std": 30.0}
            record |= {f"eval/{policy}/return_{name}": value for name, value in {"mean": mean, **spread}.items()}
        metrics.append(record)
    return metrics


def colors(path: Path) -> set[tuple[int, int, int]]:
    """Every color of a picture."""
    pixels = np.asarray(Image.open(path).convert("RGB")).astype(np.int32)
    assert pixels.shape == (750, 1200, 3)
    packed = np.unique(pixels @ np.array([1 << 16, 1 << 8, 1]))
    return {(int(color) >> 16, int(color) >> 8 & 255, int(color) & 255) for color in packed}


GREEDY, SAMPLED, SOLVED = (0x1B, 0x6C, 0xA8), (0xD9, 0x82, 0x2B), (0x3A, 0x7D, 0x44)


def test_everything_is_drawn(tmp_path: Path) -> None:
    write_learning_curve(learning(), tmp_path / "curve.png", "CartPole-v1", threshold=475)
    assert {GREEDY, SAMPLED, SOLVED} <= colors(tmp_path / "curve.png")


@pytest.mark.parametrize(
    "metrics",
    [
        [],
        [{"env_step": 5, "loss/reward": 1.0}],
        [{"env_step": 5, "episode/return": 9.0}],
        [{"env_step": 5, "eval/greedy/return_mean": 9.0}, {"env_step": 9, "eval/greedy/return_mean": float("nan")}],
    ],
)
def test_few_metrics_are_enough(metrics: list[dict[str, Any]], tmp_path: Path) -> None:
    write_learning_curve(metrics, tmp_path / "curve.png", "nothing much")
    assert SOLVED not in colors(tmp_path / "curve.png")


def test_unwritable_file_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"cannot write .*missing/media/curve.png: No such file or directory"):
        write_learning_curve([], tmp_path / "missing" / "media" / "curve.png", "x")


def test_a_saved_agent_has_no_folder_for_pictures(tmp_path: Path) -> None:
    write_learning_curve([], tmp_path / "media" / "curve.png", "x")
    assert (tmp_path / "media" / "curve.png").is_file()
