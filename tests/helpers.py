"""Tiny agents and random data for the tests of the model and the update."""

from __future__ import annotations

from functools import partial
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np

from dreamerjax.agent.observation_normalization import initial_statistics
from dreamerjax.agent.state import Batch, Hyper, Trains, TrainState, UpdateOptions, hyper_from_config, init_train_state
from dreamerjax.config.schema import BehaviorConfig, BinsConfig, Config, LossConfig, ModelConfig, OptimConfig
from dreamerjax.core.types import ActionSpec, EnvSpec, ObservationSpec
from dreamerjax.networks.build import Networks, build_networks
from dreamerjax.ops import normalization
from dreamerjax.ops.optimizer import laprop_init

VECTOR = EnvSpec({"state": ObservationSpec((3,))}, ActionSpec(sizes=(3,)))
CONTINUOUS = EnvSpec({"state": ObservationSpec((3,))}, ActionSpec(dimensions=2))
MIXED = EnvSpec(
    {
        "number": ObservationSpec((1,), (3,)),
        "parts": ObservationSpec((2,), (2, 4)),
        "state": ObservationSpec((3,)),
    },
    ActionSpec(sizes=(3, 2)),
)
IMAGE = EnvSpec({"image": ObservationSpec((16, 32, 3), is_image=True)}, ActionSpec(sizes=(3,)))
BOTH = EnvSpec({**IMAGE.observations, "state": ObservationSpec((3,))}, ActionSpec(sizes=(3,)))
LENGTH, SEQUENCES, HORIZON = 6, 4, 3


def model_config(**changes: Any) -> ModelConfig:
    """The smallest model with every part: 16 deterministic numbers, 2 groups of 4 classes, 21 bins."""
    sizes = {"deter": 16, "hidden": 8, "groups": 2, "classes": 4, "units": 8, "blocks": 2}
    return ModelConfig(**{**sizes, "bins": BinsConfig(21, -3.0, 3.0), **changes})


def make_networks(spec: EnvSpec = VECTOR, **changes: Any) -> Networks:
    """Modules of the tiny model, with changes."""
    return build_networks(spec, model_config(**changes))


def settings(**changes: Any) -> UpdateOptions:
    """Static choices: horizon 3, all starts, everything on."""
    base = {
        "trains": Trains.everything,
        "horizon": HORIZON,
        "starts_per_sequence": 0,
        "straight_through": False,
        "return_norm": True,
        "center_advantages": True,
        "replay_critic_gradient": True,
        "context": True,
        "anchor": False,
    }
    return UpdateOptions(**{**base, **changes})


def hyper(**changes: Any) -> Hyper:
    """Traced numbers: large learning rates without warm-up."""
    optim = OptimConfig(model_lr=1e-3, actor_lr=2e-3, critic_lr=3e-3, warmup=0)
    config = Config(optim=optim, behavior=BehaviorConfig(gamma=0.9, entropy=0.01), loss=LossConfig(free_nats=0.5))
    numbers: dict[str, Any] = {name: np.float32(value) for name, value in changes.items()}
    return hyper_from_config(config)._replace(**numbers)


def initial_state(networks: Networks, seed: int = 0) -> TrainState:
    """A fresh training state, initialised by one compiled program."""
    state: TrainState = jax.jit(partial(init_train_state, networks))(jax.random.key(seed))
    return state


def random_params(networks: Networks, seed: int = 1) -> dict[str, Any]:
    """Parameters as in the middle of training: no zero heads, biases or unit scales that hide something.

    Drawn with NumPy: nothing to compile.
    """
    rng = np.random.default_rng(seed)
    shapes = jax.eval_shape(partial(init_train_state, networks), jax.random.key(0)).params

    def draw(path: Any, leaf: Any) -> jax.Array:
        noise = rng.normal(size=leaf.shape)
        name = path[-1].key
        if name == "kernel":
            return jnp.asarray(noise / np.sqrt(leaf.shape[-2]), jnp.float32)
        return jnp.asarray((name == "scale") + 0.3 * noise, jnp.float32)

    params: dict[str, Any] = jax.tree_util.tree_map_with_path(draw, shapes)
    return params


def random_agent(networks: Networks, seed: int = 1) -> dict[str, Any]:
    """Random parameters with the observation statistics of an agent that counts none: what evaluations take."""
    return {**random_params(networks, seed), "statistics": {}}


def random_state(networks: Networks, seed: int = 1) -> TrainState:
    """A training state with random parameters, an average and a slow critic of their own and no updates made."""
    params = random_params(networks, seed)
    return TrainState(
        params=params,
        average=random_params(networks, seed + 2),
        slow_critic=random_params(networks, seed + 1)["critic"],
        statistics=initial_statistics(networks.spec.observations) if networks.standardize else {},
        optimizer={part: laprop_init(tree) for part, tree in params.items()},
        return_scale=normalization.return_scale_init(),
        key=jax.random.key(seed),
        updates=jnp.zeros((), jnp.int32),
    )


def fresh(state: TrainState) -> TrainState:
    """The state with a key that may be consumed: a test often starts from one state several times."""
    return state._replace(key=jax.random.clone(state.key))


def observations(spec: EnvSpec, shape: tuple[int, ...], rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Random observations with the leading `shape`."""
    return {
        name: rng.integers(0, part.classes, (*shape, *part.shape), dtype=np.int32)
        if part.is_discrete
        else rng.integers(0, 256, (*shape, *part.shape), dtype=np.uint8)
        if part.is_image
        else (3 * rng.normal(size=(*shape, *part.shape))).astype(np.float32)
        for name, part in spec.observations.items()
    }


def actions(spec: EnvSpec, shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    """Random environment-facing actions."""
    if spec.action.is_discrete:
        return rng.integers(0, spec.action.sizes, (*shape, *spec.action.shape), dtype=np.int32)
    return rng.uniform(-1, 1, (*shape, *spec.action.shape)).astype(np.float32)


def random_batch(
    networks: Networks, *, length: int = LENGTH, sequences: int = SEQUENCES, seed: int = 0, ends: float = 0.2
) -> Batch:
    """Replayed sequences [T, B] of NumPy arrays, with episode ends of both kinds."""
    rng = np.random.default_rng(seed)
    spec, rssm, shape = networks.spec, networks.rssm, (length, sequences)
    is_last = rng.uniform(size=shape) < ends
    is_first = np.concatenate([rng.uniform(size=(1, sequences)) < ends, is_last[:-1]])
    return Batch(
        observations=observations(spec, shape, rng),
        action=actions(spec, shape, rng),
        reward=rng.normal(size=shape).astype(np.float32),
        is_first=is_first,
        is_last=is_last,
        is_terminal=is_last & (rng.uniform(size=shape) < 0.5),
        context_action=actions(spec, (sequences,), rng),
        context_deter=rng.uniform(-1, 1, (sequences, rssm.deter)).astype(np.float32),
        context_stoch=rng.integers(0, rssm.classes, (sequences, rssm.groups), dtype=np.uint8),
    )


def stacked(*batches: Batch) -> Batch:
    """Batches [T, B, ...] as one [K, T, B, ...]."""
    return jax.tree.map(lambda *leaves: np.stack(leaves), *batches)


def assert_trees_close(actual: Any, expected: Any, rtol: float, atol: float = 0.0) -> None:
    """Leaf by leaf, naming the leaf that differs. Typed keys are compared as numbers."""

    def numbers(leaf: Any) -> Any:
        is_key = isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
        return jax.random.key_data(leaf) if is_key else leaf

    chex.assert_trees_all_close(jax.tree.map(numbers, actual), jax.tree.map(numbers, expected), rtol=rtol, atol=atol)


def largest(tree: Any) -> float:
    """The largest absolute value of any leaf."""
    return max(float(np.abs(np.asarray(leaf)).max()) for leaf in jax.tree.leaves(tree))
