"""A stateful policy for collectors and evaluations, around the pure `act`."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np

from dreamerjax.agent import action_distribution
from dreamerjax.agent.observation_normalization import model_units
from dreamerjax.agent.state import Params, PolicyState
from dreamerjax.agent.world_model import (
    FilterInputs,
    Latent,
    class_indices,
    encode_action,
    feature,
    initial_latent,
    posterior_step,
    project_inputs,
)
from dreamerjax.core.types import Array, Arrays
from dreamerjax.networks.build import Networks
from dreamerjax.networks.layers import apply

Explore = Callable[[np.ndarray, np.ndarray], np.ndarray]  # the actor's actions [N, C] and is_first [N] -> what is done


def initial_policy_state(networks: Networks, batch: int) -> PolicyState:
    """Zeros; the first observation of an episode erases it anyway."""
    action = jnp.zeros((batch, *networks.spec.action.shape), networks.spec.action.dtype)
    return PolicyState(initial_latent(networks, batch), action)


class Seen(NamedTuple):
    """What N environments show: observations {name: [N, ...]} in their own units, and whether an episode begins [N]."""

    observations: dict[str, Array]
    is_first: Array


def act(
    networks: Networks, params: dict[str, Params], state: PolicyState, seen: Seen, key: jax.Array, *, greedy: bool
) -> tuple[jax.Array, PolicyState]:
    """Filter one observation of N environments and choose an action [N, C]: the actor's mode if `greedy`, else a sample.

    `params` are what `acting_params` takes of an agent's.
    """
    chex.assert_rank([seen.is_first, state.latent.deter, state.action], [1, 2, 2])
    chex.assert_tree_shape_prefix((seen, state), seen.is_first.shape, custom_message="N environments")
    latent_key, action_key = jax.random.split(key)
    observations = model_units(networks.spec.observations, params["statistics"], seen.observations)
    inputs = FilterInputs(observations, encode_action(networks, state.action), seen.is_first)
    uniform = jax.random.uniform(latent_key, (*seen.is_first.shape, networks.rssm.groups))
    projected = project_inputs(networks, params, inputs)
    latent = posterior_step(networks, params, state.latent, projected, uniform).latent
    outputs = apply(networks.actor, params["actor"], feature(latent))
    if greedy:
        action = action_distribution.mode(networks, outputs)
    else:
        uniform = jax.random.uniform(action_key, (*seen.is_first.shape, *action_distribution.noise_shape(networks)))
        action = action_distribution.sample(networks, outputs, uniform)
    return action, PolicyState(latent, action)


class Policy:
    """Acts for N environments, remembering their latents.

    Call it with observations {name: [N, ...]} and is_first [N]; it returns actions [N, C] and the latents to store with the
    step: `deter` float32 [N, D] and `stoch` class indices [N, S]. Randomness is a function of `seed` and the number of calls.
    """

    def __init__(
        self, networks: Networks, params: Any, num_envs: int, seed: int, *, greedy: bool, explore: Explore | None = None
    ) -> None:
        """`explore` may put other actions in place of the actor's; the latents then follow what was done."""
        self.params = params
        self._explore = explore
        self._networks = networks
        self._num_envs = num_envs
        self._key = jax.random.key(seed)
        self._step = compiled_act(networks, greedy)
        self.reset()

    def reset(self) -> None:
        """Forget every latent, and start the sequence of random numbers again."""
        self._state = initial_policy_state(self._networks, self._num_envs)
        self._calls = 0

    def __call__(self, observations: Arrays, is_first: np.ndarray) -> tuple[np.ndarray, Arrays]:
        seen = Seen(observations, is_first)
        action, self._state, deter, stoch = self._step(self.params, self._state, seen, self._key, np.int32(self._calls))
        self._calls += 1
        chosen = np.asarray(action)
        done = self._explore(chosen, is_first) if self._explore else chosen
        if done is not chosen:
            self._state = self._state._replace(action=jnp.asarray(done))
        return done, {"deter": np.asarray(deter), "stoch": np.asarray(stoch)}

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
        latent = Latent(*(jax.numpy.asarray(state[name]) for name in ("deter", "stoch")))
        self._state = PolicyState(latent, jax.numpy.asarray(state["action"]))
        self._calls = int(state["calls"])


def compiled_act(networks: Networks, greedy: bool) -> Any:
    """`act`, compiled, with the key folded in and the latents in the form that replay stores."""

    @partial(jax.jit, donate_argnums=(1,))
    def step(
        params: Any, state: PolicyState, seen: Seen, key: jax.Array, calls: jax.Array
    ) -> tuple[jax.Array, PolicyState, jax.Array, jax.Array]:
        key = jax.random.fold_in(key, calls)
        action, new = act(networks, params, state, seen, key, greedy=greedy)
        return action, new, new.latent.deter, class_indices(networks, new.latent)

    return step
