"""How a new run begins: with fresh parameters, or with the world model or the policy of another run.

A resumed run begins nowhere: its own checkpoint holds everything, and nothing here is applied again
(findings_of_the_log.md#01-19b).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from dreamerjax.agent.state import Params, TrainState, acting_params, state_from_dict
from dreamerjax.config.schema import Mode
from dreamerjax.core.errors import UserError
from dreamerjax.core.run_directory import RunDirectory
from dreamerjax.storage import compatibility
from dreamerjax.storage.checkpoints import CheckpointStore
from dreamerjax.training.world import World


@dataclass(frozen=True)
class WarmStart:
    """What a run starts from."""

    state: TrainState
    policy: dict[str, Params] | None = None  # acting parameters of another run, which collects in this one's place
    source: dict[str, Any] | None = None  # the other run, for meta.json


def warm_start(world: World, model_family: dict[str, Any]) -> WarmStart:
    """Fresh parameters and, where the mode says so, what `from` has in their place.

    `dreamer` takes the other run's world model with its optimiser, and its actor and critic too (with slow critic, return
    scale and optimisers) unless `reset_actor_critic`. `bootstrap` takes the policy that collects, and nothing to train.
    The count of updates and the randomness are always the new run's own.

    Raises UserError if there is no such run, it has no undamaged checkpoint, `Agent.save` wrote it, or it is of another family.
    """
    config, fresh = world.config, world.initial_state()
    if config.from_ is None:
        return WarmStart(fresh)
    other = RunDirectory.open(config.from_, root=config.run.root)
    restored = CheckpointStore(other.checkpoints / "latest", 1).restore(with_replay=False)
    compatibility.require_same(restored.info["family"], model_family, str(other.path))
    if "optimizer" not in restored.arrays["train"]:
        raise UserError(f"{other.path} holds an agent that Agent.save wrote, without what training goes on from: name its run")
    trained = state_from_dict(restored.arrays["train"], fresh)
    source = {"run": str(other.path), "env_step": restored.step, "updates": int(trained.updates)}
    if config.mode is Mode.bootstrap:
        return WarmStart(fresh, jax.tree.map(jnp.asarray, acting_params(trained.averaged)), source)
    if not config.reset_actor_critic:
        return WarmStart(trained._replace(key=fresh.key, updates=fresh.updates), source=source)
    part = "world_model"
    state = fresh._replace(
        params=fresh.params | {part: trained.params[part]},
        average=fresh.average | {part: trained.average[part]},
        statistics=trained.statistics,
        optimizer=fresh.optimizer | {part: trained.optimizer[part]},
    )
    return WarmStart(state, source=source)
