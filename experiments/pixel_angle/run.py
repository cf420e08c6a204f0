"""Does a world model that sees CartPole-v1 in pictures know the angle of the pole? Its own drawings are measured.

    python experiments/pixel_angle/run.py                 # trains what is missing, then measures and writes REPORT.md
    python experiments/pixel_angle/run.py --run runs/<id> # also measures this run's last checkpoint

Three views of the same world, each learned by the world model alone from a random policy: the whole picture, as in
findings_of_the_log.md#01-09, and two that are cut to the cart and the pole. The angle is read from a picture by the direction
in which the pole's colour is spread, and calibrated on real pictures, whose own error is what cannot be undercut.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np

from dreamerjax import Agent
from dreamerjax.config.schema import EnvConfig
from dreamerjax.core.files import write_json, write_text
from dreamerjax.core.machine import machine
from dreamerjax.core.types import Arrays
from dreamerjax.diagnostics import open_loop
from dreamerjax.envs import make_env

HERE = Path(__file__).resolve().parent
CUT = "env.crop=[0.4,0.85,0.0,1.0]"
VIEWS = {
    "whole picture, 64 x 64": ("env.image_size=[64,64]", "env.crop=[0.0,1.0,0.0,1.0]"),
    "cut, 64 x 64": ("env.image_size=[64,64]", CUT),
    "cut, 32 x 64": ("env.image_size=[32,64]", CUT),
}
UPDATES = 600
TRAINING = (
    "+experiment=cartpole_pixels", "mode=bootstrap", f"train.updates={UPDATES}", "train.stop_at_return=null",
    "pacing.model_warmup=0", "monitor.dreams_every=0",
)  # fmt: skip
CONTEXT, AHEAD = 8, (1, 5, 10)  # steps that are seen before a dream, and steps into it at which it is judged
EPISODES = 200  # of the random policy; those that are long enough count
PICTURE = (400, 600)  # height and width of what CartPole-v1 renders


def pole_angle(images: np.ndarray, config: EnvConfig) -> np.ndarray:
    """The pole's angle to the vertical in radians [N], to the right positive, of pictures [N, H, W, 3] within [0, 1].

    The pole is brown, and nothing else has more red than blue: its direction is that of the spread of this difference.
    """
    weight = np.maximum(images[..., 0] - images[..., 2] - 0.04, 0.0)
    top, bottom, left, right = config.crop
    height, width = images.shape[1:3]
    y = (np.arange(height) + 0.5)[:, None] / height * (bottom - top) * PICTURE[0]
    x = (np.arange(width) + 0.5)[None, :] / width * (right - left) * PICTURE[1]
    total = weight.sum(axis=(1, 2)) + 1e-9
    dx, dy = (axis - ((weight * axis).sum(axis=(1, 2)) / total)[:, None, None] for axis in (x, y))
    xx, yy, xy = ((weight * product).sum(axis=(1, 2)) / total for product in (dx * dx, dy * dy, dx * dy))
    return -0.5 * np.arctan2(2 * xy, yy - xx)


def episodes(config: EnvConfig) -> list[tuple[Arrays, np.ndarray, np.ndarray]]:
    """Random episodes of at least CONTEXT + max(AHEAD) steps: observations, actions, and the true angle at each step."""
    env, rng = make_env(config), np.random.default_rng(0)
    kept: list[tuple[Arrays, np.ndarray, np.ndarray]] = []
    length = CONTEXT + max(AHEAD)
    for number in range(EPISODES):
        seen, angles = [env.reset(seed=number)[0]], [env.unwrapped.state[2]]  # type: ignore[attr-defined]
        actions: list[np.ndarray] = []
        ended = False
        while not ended and len(actions) < length:
            actions.append(rng.integers(0, 2, 1, dtype=np.int32))
            observation, _, terminated, truncated, _ = env.step(actions[-1])
            seen.append(observation)
            angles.append(env.unwrapped.state[2])  # type: ignore[attr-defined]
            ended = terminated or truncated
        if not ended:
            kept.append(({name: np.stack([o[name] for o in seen]) for name in seen[0]}, np.stack(actions), np.array(angles)))
    return kept


def measure(run: Path) -> dict[str, Any]:
    """Root mean squared errors of the angle in degrees: of real pictures, of their reconstructions and of dreams."""
    agent = Agent.load(run)
    watch = jax.jit(partial(open_loop.watch, agent.networks, gamma=np.float32(agent.config.behavior.gamma)))
    rng, groups, length = np.random.default_rng(1), agent.networks.rssm.groups, max(AHEAD)
    real, drawn, true = [], [], []
    for seen, actions, angles in episodes(agent.config.env):
        before = np.concatenate([np.zeros_like(actions[:1]), actions[: CONTEXT - 1]])
        uniform = [rng.random((count, 1, 1, groups), np.float32) for count in (CONTEXT, length)]
        context = {name: values[:CONTEXT, None] for name, values in seen.items()}
        ahead = actions[CONTEXT - 1 : CONTEXT - 1 + length, None]
        watched = watch(agent.all_params, context, before[:, None], ahead, *uniform, context=np.int32(CONTEXT))
        real.append(seen["image"][: CONTEXT + length] / 255.0)
        drawn.append(np.asarray(watched.images["image"]))
        true.append(angles[: CONTEXT + length])
    angle = np.degrees(np.stack(true))
    by_picture, by_model = (
        np.degrees(pole_angle(np.concatenate(images), agent.config.env)).reshape(angle.shape) for images in (real, drawn)
    )
    slope, offset = np.polyfit(by_picture.ravel(), angle.ravel(), 1)

    def error(read: np.ndarray, truth: np.ndarray) -> float:
        return round(float(np.sqrt(np.mean((slope * read + offset - truth) ** 2))), 3)

    return {
        "episodes": len(angle),
        "env_step": agent.env_step,
        "spread": round(float(angle.std()), 3),
        "real": error(by_picture, angle),
        "reconstruction": error(by_model[:, :CONTEXT], angle[:, :CONTEXT]),
        **{f"dream_{k}": error(by_model[:, CONTEXT + k - 1], angle[:, CONTEXT + k - 1]) for k in AHEAD},
    }


COLUMNS = {
    "spread": "spread of the true angle",
    "real": "read from real pictures",
    "reconstruction": "from what the model draws of the present",
    **{f"dream_{k}": f"{k} step{'s' * (k > 1)} into a dream" for k in AHEAD},
}


def main() -> int:
    """Train what is missing, measure, report."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--root", type=Path, default=Path("runs/pixel_angle"))
    parser.add_argument("--run", type=Path, help="a run on CartPole-v1 from pictures of 3 channels, to be measured as well")
    options = parser.parse_args()
    options.root.mkdir(parents=True, exist_ok=True)
    rows = {}
    for number, (title, view) in enumerate(VIEWS.items()):
        runs = [path for path in options.root.glob(f"*_view{number}") if (path / "summary.json").exists()]
        if not runs:
            settings = (*TRAINING, *view, f"run.root={options.root}", f"run.name=view{number}")
            subprocess.run([sys.executable, "-m", "dreamerjax.train", *settings], check=True)
            runs = list(options.root.glob(f"*_view{number}"))
        rows[f"{title}, world model alone, {UPDATES} updates"] = measure(max(runs))
    if options.run:
        rows["cut, 32 x 64, the agent of `+experiment=cartpole_pixels` when it is solved"] = measure(options.run)
    write_json(HERE / "angle.json", {"machine": machine(), "views": rows})
    table = ["| | " + " | ".join(COLUMNS.values()) + " |", "| --- |" + " --- |" * len(COLUMNS)]
    table += [f"| {title} | " + " | ".join(f"{row[key]:.2f}" for key in COLUMNS) + " |" for title, row in rows.items()]
    report = ["# The angle of a pole in pictures", "", (HERE / "NOTES.md").read_text(), *table, ""]
    write_text(HERE / "REPORT.md", "\n".join(report))
    print("\n".join(table))
    return 0


if __name__ == "__main__":
    sys.exit(main())
