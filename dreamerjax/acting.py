"""A stateful policy for collectors and evaluations, around the pure `agent.act`."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import numpy as np

from dreamerjax import agent
from dreamerjax.networks.build import Networks
from dreamerjax.types import Arrays


class Policy:
    """Acts for N environments, remembering their latents.

    Call it with observations {name: [N, ...]} and is_first [N]; it returns actions [N, C] and the latents to store with the
    step: `deter` float32 [N, D] and `stoch` class indices [N, S]. Randomness is a function of `seed` and the number of calls.
    """

    def __init__(self, networks: Networks, params: Any, num_envs: int, seed: int, *, greedy: bool) -> None:
        self.params = params
        self._networks = networks
        self._num_envs = num_envs
        self._key = jax.random.key(seed)
        self._step = compiled_act(networks, greedy)
        self.reset()

    def reset(self) -> None:
        """Forget every latent, and start the sequence of random numbers again."""
        self._state = agent.initial_policy_state(self._networks, self._num_envs)
        self._calls = 0

    def __call__(self, observations: Arrays, is_first: np.ndarray) -> tuple[np.ndarray, Arrays]:
        action, self._state, deter, stoch = self._step(
            self.params, self._state, observations, is_first, self._key, np.int32(self._calls)
        )
        self._calls += 1
        return np.asarray(action), {"deter": np.asarray(deter), "stoch": np.asarray(stoch)}

    def state_dict(self) -> dict[str, Any]:
        """Latents, last actions and the call counter, as NumPy."""
        latent = self._state.latent
        parts = {
            "deter": latent.deter,
            "stoch": latent.stoch,
            "action": self._state.action,
            "calls": np.int32(self._calls),
        }
        return {name: np.asarray(value) for name, value in parts.items()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """The inverse of `state_dict`."""
        latent = agent.Latent(*(jax.numpy.asarray(state[name]) for name in ("deter", "stoch")))
        self._state = agent.PolicyState(latent, jax.numpy.asarray(state["action"]))
        self._calls = int(state["calls"])


def compiled_act(networks: Networks, greedy: bool) -> Any:
    """`agent.act`, compiled, with the key folded in and the latents in the form that replay stores."""

    @partial(jax.jit, donate_argnums=(1,))
    def step(
        params: Any,
        state: agent.PolicyState,
        observations: Arrays,
        is_first: jax.Array,
        key: jax.Array,
        calls: jax.Array,
    ) -> tuple[jax.Array, agent.PolicyState, jax.Array, jax.Array]:
        key = jax.random.fold_in(key, calls)
        action, new = agent.act(networks, params, state, observations, is_first, key, greedy=greedy)
        deter, stoch = new.latent
        indices = jax.numpy.argmax(stoch, axis=-1).astype(agent.stoch_dtype(networks))
        return action, new, deter, indices

    return step
