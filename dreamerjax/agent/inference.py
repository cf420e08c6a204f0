"""A trained agent from Python: load a run, act in its environment."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Any

import gymnasium as gym
import jax
import jax.numpy as jnp
import numpy as np

from dreamerjax.agent.policy import Seen, compiled_act, initial_policy_state
from dreamerjax.agent.state import PolicyState, acting_params
from dreamerjax.config.cli import config_from_yaml
from dreamerjax.config.schema import Config
from dreamerjax.core.run_directory import RunDirectory
from dreamerjax.envs import Source, env_spec, make_env
from dreamerjax.envs.factory import gymnasium_env
from dreamerjax.envs.given import source_of
from dreamerjax.networks.build import build_networks
from dreamerjax.storage import compatibility
from dreamerjax.storage.checkpoints import CheckpointStore, Restored

State = tuple[PolicyState, int]  # latents and last action, and the steps of this episode so far


class Agent:
    """The policy of a training run. See `load`."""

    def __init__(
        self, run: RunDirectory, config: Config, restored: Restored, *, source: Source | None = None, seed: int = 0
    ) -> None:
        """Prefer `load`. Raises UserError if the checkpoint is of another model family than the configuration's."""
        self.run, self.config, self.env_step = run, config, restored.step
        self._source = source
        with closing(make_env(config.env, source=source)) as self._adapter:
            self.spec = env_spec(self._adapter.observation_space, self._adapter.action_space)
        compatibility.require_same(restored.info["family"], compatibility.fingerprint(config, self.spec), str(run.path))
        self.networks = build_networks(self.spec, config.model)
        saved = restored.arrays["train"]
        self.all_params = jax.tree.map(jnp.asarray, saved["average"] | {"statistics": saved["statistics"]})
        self.params = acting_params(self.all_params)
        self._key = jax.random.key(seed)
        self._steps = {greedy: compiled_act(self.networks, greedy) for greedy in (True, False)}

    @classmethod
    def load(cls, run: str | Path, *, checkpoint: str = "latest", root: str = "runs", seed: int = 0, env: Any = None) -> Agent:
        """The agent of a run: a path, an id under `root`, or `latest`.

        Args:
            run: which one.
            checkpoint: `latest`, or `best` for the one with the highest greedy evaluation.
            root: where runs named by id are looked up.
            seed: of the actions and latents that `act` draws.
            env: the class or function that makes the environment, of a run that was given one from Python.

        Raises:
            UserError: there is no such run, it has no undamaged checkpoint, or it is of another environment.
        """
        directory = RunDirectory.open(run, root=root)
        restored = CheckpointStore(directory.checkpoints / checkpoint, 1).restore(with_replay=False)
        config = config_from_yaml(directory.config_path)
        return cls(directory, config, restored, source=source_of(env, config.env.id, str(directory.path)), seed=seed)

    def act(self, observation: Any, state: State | None = None, *, greedy: bool = True) -> tuple[Any, State]:
        """Choose an action for one observation of the run's environment, both as gymnasium has them.

        Args:
            observation: from `reset` or `step` of the environment.
            state: what the call before returned; None for the first observation of an episode.
            greedy: the most probable action; else a sample.
        """
        first = state is None
        if first:
            self._adapter.begin()
        policy_state, count = (initial_policy_state(self.networks, 1), 0) if state is None else state
        flat = {name: values[None] for name, values in self._adapter.flatten(observation).items()}
        copied = jax.tree.map(jnp.copy, policy_state)  # the compiled step reuses its state's memory; the caller keeps theirs
        action, new, _, _ = self._steps[greedy](self.params, copied, Seen(flat, np.array([first])), self._key, np.int32(count))
        return self._adapter.to_env(np.asarray(action)[0]), (new, count + 1)

    def make_env(self, render_mode: str | None = None) -> gym.Env[Any, Any]:
        """The run's environment as gymnasium has it: with its arguments, time limit, repeated actions and pixels.

        Raises UserError if it cannot be built.
        """
        return gymnasium_env(self.config.env, render_mode, self._source)
