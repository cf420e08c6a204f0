"""Random actions that are held for a while, in place of the policy's: temporally extended exploration.

Source: Dabney et al., "Temporally-extended epsilon-greedy exploration" (arXiv 2006.01782). Noise that is new at every step
averages out; a swing is built up, and a corner of the space reached, by doing the same for a while.
"""

from __future__ import annotations

import numpy as np

from dreamerjax.core.types import ActionSpec, Arrays


def explored_share(return_spread: float, randomness: float) -> float:
    """Of the steps: all where nothing is known to be better than anything else.

    That is where the returns of dreams do not differ (none is left once their range is 1, the unit that advantages are
    measured in), and the policy is as random as it can be (none is left below 0.9 of that): a solved task whose returns are all
    alike has a policy that is not.
    """
    return max(0.0, 1.0 - return_spread) * max(0.0, 1.0 - 10.0 * (1.0 - randomness))


class Exploration:
    """Cuts the steps of N environments into stretches: in a `share` of them one random action is held, in the others the
    policy acts.

    A stretch has n steps with probability proportional to 1/n, up to `longest`: as much time goes into short ones as into long
    ones, so that no time scale is preferred. It ends with its episode.
    """

    def __init__(self, spec: ActionSpec, num_envs: int, longest: int, rng: np.random.Generator) -> None:
        """Draws from (and advances) the caller's generator, once there is something to explore."""
        lengths = np.arange(1, longest + 1)
        self.share = 0.0
        self._spec, self._rng = spec, rng
        self._lengths, self._odds = lengths, (1.0 / lengths) / np.sum(1.0 / lengths)
        self._left = np.zeros(num_envs, np.int32)  # steps of the present stretch
        self._holds = np.zeros(num_envs, np.bool_)
        self._held = np.zeros((num_envs, *spec.shape), spec.dtype)

    def __call__(self, action: np.ndarray, is_first: np.ndarray) -> np.ndarray:
        """What is done [N, C] where the policy would do `action` [N, C]: the same array if nothing is held."""
        ended = is_first | (self._left == 0)
        if self.share > 0.0:
            count = len(ended)
            lengths = self._rng.choice(self._lengths, count, p=self._odds)
            holds = self._rng.random(count) < self.share
            self._left = np.where(ended, lengths, self._left).astype(np.int32)
            self._holds = np.where(ended, holds, self._holds)
            self._held = np.where(ended[:, None], self._random(count), self._held)
        else:
            self._holds = self._holds & ~ended
        self._left = np.maximum(self._left - 1, 0)
        return np.where(self._holds[:, None], self._held, action) if self._holds.any() else action

    def _random(self, count: int) -> np.ndarray:
        """[count, C]: any of the choices; of a continuous component one of its bounds, which goes furthest."""
        shape = (count, *self._spec.shape)
        if self._spec.is_discrete:
            return self._rng.integers(0, self._spec.sizes, size=shape, dtype=np.int32)
        return self._rng.choice(np.array([-1.0, 1.0], np.float32), size=shape)

    def state_dict(self) -> Arrays:
        """The present stretches; the generator is the caller's."""
        return {"share": np.array(self.share), "left": self._left, "holds": self._holds, "held": self._held}

    def load_state_dict(self, arrays: Arrays) -> None:
        """The inverse of `state_dict`."""
        self.share = float(arrays["share"])
        self._left, self._holds, self._held = (np.array(arrays[name]) for name in ("left", "holds", "held"))
