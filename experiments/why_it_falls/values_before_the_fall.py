"""What the critic believes on the way to a fall, checkpoint by checkpoint, and what then comes.

    python -m dreamerjax.train run.checkpoints_to_keep=99 train.checkpoint_every=500 train.steps=8000 ...
    python experiments/why_it_falls/values_before_the_fall.py RUN [--steps 3000 4000 ...] [--output figure.png]

At each checkpoint twenty greedy episodes of CartPole-v1 are played. Of those that end with the cart off the track, the critic's
value of every state is set against the discounted return that follows it, by the number of steps before the end.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import gymnasium as gym
import jax
import numpy as np

from dreamerjax import Agent
from dreamerjax.actor_critic import value
from dreamerjax.checkpoint import CheckpointStore
from dreamerjax.cli import config_from_yaml
from dreamerjax.rundir import RunDirectory
from dreamerjax.world_model import feature

EPISODES = 20
SHOWN = 200  # steps before the end


def fall_values(agent: Agent) -> tuple[np.ndarray, np.ndarray, list[int], dict[str, int]]:
    """Values and real discounted returns [E, SHOWN] of E falls, NaN before their start; lengths and ends of all episodes."""
    env = gym.make("CartPole-v1")
    track, gamma = env.unwrapped.x_threshold, agent.config.behavior.gamma  # type: ignore[attr-defined]
    critic = jax.jit(lambda latent: value(agent.networks, agent.all_params["critic"], feature(latent)))
    believed, real, lengths, ends = [], [], [], {"time limit": 0, "off the track": 0, "pole": 0}
    for seed in range(EPISODES):
        observation, _ = env.reset(seed=seed)
        state, terminated, truncated, values = None, False, False, []
        while not (terminated or truncated):
            action, state = agent.act(observation, state)
            values.append(float(critic(state[0].latent)[0]))
            observation, _, terminated, truncated, _ = env.step(action)
        off_track = abs(observation[0]) > track
        ends["off the track" if off_track else "pole" if terminated else "time limit"] += 1
        lengths.append(len(values))
        if off_track:
            ahead = np.arange(len(values), 0, -1)
            believed.append(_last(np.array(values)))
            real.append(_last((1 - gamma**ahead) / (1 - gamma)))
    return np.array(believed), np.array(real), lengths, ends


def _last(values: np.ndarray) -> np.ndarray:
    """The last SHOWN of values [n], last first, filled with NaN."""
    padded = np.full(SHOWN, np.nan)
    padded[: min(SHOWN, len(values))] = values[::-1][:SHOWN]
    return padded


def main() -> None:
    """The command line."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("run")
    parser.add_argument("--steps", type=int, nargs="+")
    parser.add_argument("--output", type=Path, default=Path("values_before_the_fall.png"))
    options = parser.parse_args()
    directory = RunDirectory.open(options.run)
    config, store = config_from_yaml(directory.config_path), CheckpointStore(directory.checkpoints / "latest", 1)
    figure = Figure(figsize=(8, 4.5), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    steps = options.steps or store.steps()
    for index, step in enumerate(steps):
        agent = Agent(directory, config, store.restore(step, with_replay=False))
        believed, real, lengths, ends = fall_values(agent)
        print(f"step {step}: mean length {np.mean(lengths):.0f}; {ends}", end="")
        if len(believed):
            curve, truth = np.nanmean(believed, axis=0), np.nanmean(real, axis=0)
            shown = ", ".join(f"{curve[back]:.0f}" for back in (0, 15, 50, 150))
            print(f"; values {shown} at 1, 16, 51, 151 steps before the fall")
            share = index / max(1, len(steps) - 1)
            axes.plot(
                range(1, SHOWN + 1),
                curve,
                color=(0.85 - 0.8 * share, 0.6 - 0.35 * share, 0.3 + 0.4 * share),
                label=f"step {step:,}",
            )
            axes.plot(range(1, SHOWN + 1), truth, color="black", linestyle="--", linewidth=1)
        else:
            print()
    axes.axvspan(0, config.behavior.horizon, color="#dddddd", zorder=0)
    axes.invert_xaxis()
    axes.set_xlabel("steps before the cart leaves the track (grey: the length of a dream)")
    axes.set_ylabel("discounted return")
    axes.set_title("What the critic believes on the way to a fall; dashed: what follows", loc="left", fontweight="bold")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    figure.savefig(options.output)


if __name__ == "__main__":
    main()
