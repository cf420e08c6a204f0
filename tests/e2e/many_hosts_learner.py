"""A learner as the training has it, in one process or as one of two, fed with the same batches; a program for the latter."""

from __future__ import annotations

import pickle
import sys
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np

from dreamerjax.agent.learner import Learner, choose_devices
from dreamerjax.agent.state import Batch, Trains, hyper_from_config, init_train_state, options_from_config
from dreamerjax.config.composition import load_config
from dreamerjax.core.stopping import Stop
from dreamerjax.core.types import EnvSpec
from dreamerjax.networks.build import build_networks
from dreamerjax.training.hosts import Group, joined


def share(batches: Batch, rank: int, size: int) -> Batch:
    """The sequences of one process: [K, T, B, ...] to [K, T, B/size, ...]."""

    def cut(leaf: np.ndarray, axis: int) -> np.ndarray:
        return np.split(leaf, size, axis)[rank]

    parts = batches._asdict()
    axes = {name: 1 if name.startswith("context") else 2 for name in parts}
    return Batch(**{name: jax.tree.map(partial(cut, axis=axes[name]), part) for name, part in parts.items()})


def learn(settings: list[str], spec: EnvSpec, batches: list[Batch], group: Group) -> dict[str, Any]:
    """Every metric [updates], and the parameters afterwards, by name, from batches [K, T, B, ...] for all processes."""
    config = load_config(settings)
    networks = build_networks(spec, config.model)
    state = jax.jit(partial(init_train_state, networks))(jax.random.key(0))
    devices = choose_devices(config.parallel.devices, config.train.batch_size)
    learner = Learner(networks, options_from_config(config), state, devices, jit=True)
    hyper, metrics = hyper_from_config(config), []
    learner.compile(hyper, share(batches[0], group.rank, group.size), Trains.everything)
    group.gather(None)  # gloo waits half a minute for the first collective of the others
    for batch in batches:
        metrics.append(jax.device_get(learner.update(hyper, share(batch, group.rank, group.size))[0]))
    leaves, _ = jax.tree_util.tree_flatten_with_path(learner.state().params)
    params = {jax.tree_util.keystr(path): np.asarray(leaf) for path, leaf in leaves}
    return params | {name: np.concatenate([one[name] for one in metrics]) for name in metrics[0]}


if __name__ == "__main__":
    jax.config.update("jax_num_cpu_devices", 1)
    folder, *place = sys.argv[1:]
    settings, spec, batches = pickle.loads((Path(folder) / "lesson").read_bytes())
    with joined(load_config([*settings, *place]), Stop()) as (group, _):
        np.savez(Path(folder) / f"{group.rank}.npz", **learn(settings, spec, batches, group))
