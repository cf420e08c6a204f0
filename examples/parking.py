"""Stop a car in the free bay: an environment of one's own. How to check it and train on it: docs/environments.md."""

import gymnasium as gym
import numpy as np
from gymnasium.spaces import Box, Dict, Discrete


class Parking(gym.Env):
    """Stop a car in the one of three bays that is free."""

    def __init__(self, power=0.1):
        self.observation_space = Dict({"car": Box(-np.inf, np.inf, (2,), np.float32), "free": Discrete(3)})
        self.action_space = Discrete(3)  # backwards, roll, forwards
        self.power = power

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)  # seeds self.np_random
        self.position, self.speed = self.np_random.uniform(-0.5, 0.5), 0.0
        self.free = int(self.np_random.integers(3))
        return self.observe(), {}

    def step(self, action):
        self.speed += self.power * (int(action) - 1)
        self.position += self.speed
        distance = abs(self.position - (self.free - 1))  # the bays are at -1, 0 and 1
        parked, crashed = distance < 0.3 and abs(self.speed) < 0.15, abs(self.position) > 2.0
        reward = 1.0 if parked else -1.0 if crashed else -0.01
        return self.observe(), reward, parked or crashed, False, {}

    def observe(self):
        return {"car": np.array([self.position, self.speed], np.float32), "free": self.free}


gym.register("Parking-v0", Parking, max_episode_steps=100)  # the time limit truncates
