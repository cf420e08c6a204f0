"""What the world model and the critic see on the way to a fall, checkpoint by checkpoint.

    python -m dreamerjax.train run.checkpoints_to_keep=99 train.checkpoint_every=500 train.steps=8000 ...
    python experiments/why_it_falls/before_the_fall.py RUN [--steps 3000 4000 ...] [--output figure.png]

At each checkpoint twenty greedy episodes of CartPole-v1 are played. Of those that end with the cart off the track: where the
cart is and where the decoder puts it, what the continue head expects, and the critic's value beside the discounted return that
follows.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import NamedTuple

import gymnasium as gym
import jax
import numpy as np

from dreamerjax import Agent
from dreamerjax.agent.actor_critic import value
from dreamerjax.agent.world_model import feature
from dreamerjax.config.composition import config_from_yaml
from dreamerjax.core.run_directory import RunDirectory
from dreamerjax.networks.layers import apply
from dreamerjax.ops.scalars import symexp
from dreamerjax.storage.checkpoints import CheckpointStore
from dreamerjax.visualization import style

EPISODES = 20
SHOWN = 200  # steps before the end
PRINTED = (0, 15, 50, 150)


class Falls(NamedTuple):
    """Steps [E, SHOWN] of E falls, the last one first, NaN before their start."""

    place: np.ndarray  # of the cart, away from the middle
    decoded: np.ndarray  # where the world model has it
    continues: np.ndarray  # expected continuation, discount included
    value: np.ndarray  # the critic's
    follows: np.ndarray  # discounted return


def play(agent: Agent) -> tuple[Falls, dict[str, int]]:
    """The falls of twenty greedy episodes, and how many of them end in which way."""
    env = gym.make("CartPole-v1")
    track, gamma = env.unwrapped.x_threshold, agent.config.behavior.gamma  # type: ignore[attr-defined]
    networks, model = agent.networks, agent.all_params["world_model"]

    @jax.jit
    def see(latent: object) -> tuple[jax.Array, jax.Array, jax.Array]:
        inputs = feature(latent)  # type: ignore[arg-type]
        decoded = next(iter(apply(networks.decoder, model["decoder"], inputs).values()))
        ending = apply(networks.continue_, model["continue"], inputs)
        return symexp(decoded[0, 0]), jax.nn.sigmoid(ending[0, 0]), value(networks, agent.all_params["critic"], inputs)[0]

    falls, ends = [], {"time limit": 0, "off the track": 0, "pole": 0}
    for seed in range(EPISODES):
        observation, _ = env.reset(seed=seed)
        state, terminated, truncated, steps = None, False, False, []
        while not (terminated or truncated):
            action, state = agent.act(observation, state)
            steps.append((float(observation[0]), *map(float, see(state[0].latent))))
            observation, _, terminated, truncated, _ = env.step(action)
        off_track = abs(observation[0]) > track
        ends["off the track" if off_track else "pole" if terminated else "time limit"] += 1
        if off_track:
            place, decoded, continues, values = np.array(steps[::-1]).T
            follows = (1 - gamma ** np.arange(1, len(steps) + 1)) / (1 - gamma)
            side = np.sign(observation[0])
            falls.append([last(each) for each in (side * place, side * decoded, continues, values, follows)])
    return Falls(*np.array(falls).reshape(-1, 5, SHOWN).swapaxes(0, 1)), ends


def last(values: np.ndarray) -> np.ndarray:
    """SHOWN of values [n], filled with NaN."""
    padded = np.full(SHOWN, np.nan)
    padded[: min(SHOWN, len(values))] = values[:SHOWN]
    return padded


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("run")
    parser.add_argument("--steps", type=int, nargs="+")
    parser.add_argument("--output", type=Path, default=Path("before_the_fall.png"))
    options = parser.parse_args()
    directory = RunDirectory.open(options.run)
    config, store = config_from_yaml(directory.config_path), CheckpointStore(directory.checkpoints / "latest", 1)
    steps, back = options.steps or store.steps(), np.arange(1, SHOWN + 1)
    with style.figure(9, 4) as figure:
        left, right = figure.subplots(1, 2)
        for index, step in enumerate(steps):
            falls, ends = play(Agent(directory, config, store.restore(step, with_replay=False)))
            print(f"step {step}: {ends}")
            if not len(falls.value):
                continue
            means = Falls(*(np.nanmean(each, axis=0) for each in falls))
            for name, curve in means._asdict().items():
                print(f"  {name:10}" + "".join(f"{curve[step]:9.3f}" for step in PRINTED))
            share = index / max(1, len(steps) - 1)
            color = (0.85 - 0.8 * share, 0.6 - 0.35 * share, 0.3 + 0.4 * share)
            left.scatter(falls.place.ravel(), falls.decoded.ravel(), s=2, alpha=0.2, color=color)
            right.plot(back, means.value, color=color, label=f"step {step:,}")
            right.plot(back, means.follows, **style.REFERENCE, label="" if index else "what follows")
        left.plot([0, 2.4], [0, 2.4], **style.REFERENCE)
        left.set_xlabel("place of the cart")
        left.set_ylabel("place as decoded from the latent state")
        left.set_title("What the world model sees")
        right.axvspan(0, config.behavior.horizon, color=style.PALE, zorder=0)
        right.invert_xaxis()
        right.set_xlabel("steps before the fall (grey: one dream)")
        right.set_ylabel("discounted return")
        right.set_title("What the critic believes")
        right.legend(fontsize="small")
        style.save(figure, options.output)


if __name__ == "__main__":
    main()
