"""How greedy episodes of CartPole-v1 end, run by run: `python how_episodes_end.py RUN RUN...`."""

from __future__ import annotations

import sys

import gymnasium as gym

from dreamerjax import Agent

EPISODES = 10
TRACK = gym.make("CartPole-v1").unwrapped.x_threshold  # type: ignore[attr-defined]


def main(runs: list[str]) -> None:
    """One line per run: mean length, and how many episodes each end has."""
    env = gym.make("CartPole-v1")
    for run in runs:
        agent, ends, length = Agent.load(run), {"time limit": 0, "cart off the track": 0, "pole fallen": 0}, 0
        for seed in range(EPISODES):
            observation, _ = env.reset(seed=seed)
            state, terminated, truncated = None, False, False
            while not (terminated or truncated):
                action, state = agent.act(observation, state)
                observation, _, terminated, truncated, _ = env.step(action)
                length += 1
            off_track = abs(observation[0]) > TRACK
            ends["cart off the track" if off_track else "pole fallen" if terminated else "time limit"] += 1
        print(f"{agent.run.path.name}: {length / EPISODES:.0f} steps; {ends}", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
