"""An environment of one's own, from its class to an agent that acts in it: python examples/own_environment.py [STEPS]"""

import sys

import gymnasium as gym
import numpy as np
from gymnasium.spaces import Box

import dreamerjax


class Heating(gym.Env):
    """Keep a room at 20 degrees: it is cold outside, and the radiator answers late."""

    observation_space = Box(-np.inf, np.inf, (3,), np.float32)  # degrees of room, radiator and outside
    action_space = Box(0.0, 1.0, (1,), np.float32)  # how far the valve is open

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)  # seeds self.np_random: the same seed must give the same episode
        self.room, self.radiator = self.np_random.uniform(12.0, 24.0), 20.0
        self.outside = self.np_random.uniform(-10.0, 10.0)
        return self.observe(), {}

    def step(self, action):
        self.radiator += 0.3 * (20.0 + 50.0 * float(action[0]) - self.radiator)
        self.room += 0.1 * (self.radiator - self.room) + 0.05 * (self.outside - self.room)
        reward = 1.0 - min(abs(self.room - 20.0) / 5.0, 2.0)
        return self.observe(), reward, False, False, {}  # it never ends by itself: env.time_limit below ends episodes

    def observe(self):
        return np.array([self.room, self.radiator, self.outside], np.float32)


if __name__ == "__main__":
    steps = int(sys.argv[1]) if len(sys.argv) > 1 else 4_000
    agent = dreamerjax.learn(Heating, steps, env={"time_limit": 60})
    print(f"mean return of 20 episodes: {agent.evaluate(20).returns.mean():.1f} of at most 60")
    env = agent.make_env()
    observation, _ = env.reset(seed=0)
    state = None
    for step in range(30):
        action, state = agent.act(observation, state)
        observation, *_ = env.step(action)
        print(f"step {step}: valve {action[0]:.2f}, room {observation[0]:.1f} degrees")
