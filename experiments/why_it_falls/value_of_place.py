"""What the critic says of each place of the cart, checkpoint by checkpoint, and where the agent drifts.

    python -m dreamerjax.train run.checkpoints_to_keep=99 train.checkpoint_every=500 train.steps=8000 ...
    python experiments/why_it_falls/value_of_place.py RUN [RUN ...] [--steps 3000 4000 ...] [--output figure.png]

At each checkpoint a hand-made controller balances the pole for fifty steps around each of nine places; the agent's world model
looks on, and its critic's values are averaged over the last thirty steps. An agent that has solved the task gets the same from
every place that is not at the edge, so that the values should be level. Then ten greedy episodes are played.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import gymnasium as gym
import jax
import numpy as np

from dreamerjax import Agent
from dreamerjax.agent.actor_critic import value
from dreamerjax.agent.world_model import feature
from dreamerjax.config.composition import config_from_yaml
from dreamerjax.core.run_directory import RunDirectory
from dreamerjax.storage.checkpoints import CheckpointStore
from dreamerjax.visualization import style

PLACES = np.linspace(-2, 2, 9)
WATCHED, AVERAGED = 50, 30
EPISODES = 10


def values_of_places(agent: Agent) -> np.ndarray:
    """The critic's mean value around each of PLACES."""
    env = gym.make("CartPole-v1").unwrapped
    see = jax.jit(lambda latent: value(agent.networks, agent.all_params["critic"], feature(latent))[0])
    result = []
    for place in PLACES:
        env.reset(seed=0)
        env.state = np.array([place, 0.0, 0.0, 0.0])  # type: ignore[attr-defined]
        observation, state, values = env.state.astype(np.float32), None, []  # type: ignore[attr-defined]
        for _ in range(WATCHED):
            _, state = agent.act(observation, state)
            policy_state, count = state
            values.append(float(see(policy_state.latent)))
            x, speed, angle, turning = observation
            action = int(angle + 0.3 * turning + 0.02 * (x - place) + 0.05 * speed > 0)
            state = (policy_state._replace(action=np.full_like(policy_state.action, action)), count)
            observation, *_ = env.step(action)
        result.append(np.mean(values[-AVERAGED:]))
    return np.array(result)


def greedy_episodes(agent: Agent) -> tuple[np.ndarray, np.ndarray]:
    """(returns, the cart's places at the end) of EPISODES."""
    env = gym.make("CartPole-v1")
    returns, places = np.zeros(EPISODES), np.zeros(EPISODES)
    for seed in range(EPISODES):
        observation, _ = env.reset(seed=seed)
        state, over = None, False
        while not over:
            action, state = agent.act(observation, state)
            observation, reward, terminated, truncated, _ = env.step(action)
            returns[seed] += float(reward)
            over = terminated or truncated
        places[seed] = observation[0]
    return returns, places


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("runs", nargs="+")
    parser.add_argument("--steps", type=int, nargs="+")
    parser.add_argument("--output", type=Path, default=Path("value_of_place.png"))
    options = parser.parse_args()
    with style.figure(4.5 * len(options.runs), 4) as figure:
        for axes, run in zip(np.ravel(figure.subplots(1, len(options.runs), sharey=True)), options.runs, strict=True):
            directory = RunDirectory.open(run)
            config, store = config_from_yaml(directory.config_path), CheckpointStore(directory.checkpoints / "latest", 1)
            steps = options.steps or store.steps()
            print(f"{directory.path.name}: dreams of {config.behavior.horizon} steps")
            print("   step" + "".join(f"{place:7.1f}" for place in PLACES) + "   return  ends at")
            for index, step in enumerate(steps):
                agent = Agent(directory, config, store.restore(step, with_replay=False))
                values, (returns, places) = values_of_places(agent), greedy_episodes(agent)
                print(f"{step:7}" + "".join(f"{each:7.0f}" for each in values) + f"{returns.mean():9.0f}{places.mean():9.2f}")
                share = index / max(1, len(steps) - 1)
                color = (0.85 - 0.8 * share, 0.6 - 0.35 * share, 0.3 + 0.4 * share)
                axes.plot(PLACES, values, color=color, label=f"step {step:,}")
            axes.set_title(f"Dreams of {config.behavior.horizon} steps")
            axes.set_xlabel("place of the cart")
            axes.set_ylabel("value of a balanced pole there")
            axes.legend(fontsize="small")
        style.save(figure, options.output)


if __name__ == "__main__":
    main()
