"""A trained agent from Python: load a run, act in its environment."""

from __future__ import annotations

from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import gymnasium as gym
import jax
import jax.numpy as jnp
import numpy as np
from gymnasium.vector.utils import batch_space, concatenate, create_empty_array, iterate
from jax import export

from dreamerjax.agent.imagination import DreamNoise, Imagined, decoded_dream
from dreamerjax.agent.policy import Policy, Seen, act, compiled_act, initial_policy_state
from dreamerjax.agent.state import PolicyState, acting_params
from dreamerjax.agent.world_model import Latent
from dreamerjax.config.composition import config_from_yaml, config_to_yaml
from dreamerjax.config.schema import Config
from dreamerjax.core.errors import UserError
from dreamerjax.core.files import file_faults, user_path, write_json, write_text
from dreamerjax.core.run_directory import RunDirectory
from dreamerjax.core.types import Arrays
from dreamerjax.data.playing import EvaluationResult, longest_episode, play_episodes
from dreamerjax.envs import Source, env_spec, make_env, make_vector_env, spaces
from dreamerjax.envs.boundary import NotAcceptedError
from dreamerjax.envs.factory import gymnasium_env
from dreamerjax.envs.given import source_of
from dreamerjax.networks.build import build_networks
from dreamerjax.storage import compatibility
from dreamerjax.storage.checkpoints import CheckpointStore, Restored

PLATFORMS = ("cpu", "cuda", "rocm", "tpu")  # that an exported policy runs on

State = tuple[PolicyState, int]  # latents and last action, and the steps of this episode so far


def environments_of(state: State) -> int:
    """How many environments it is the state of. Raises UserError for what neither `act` nor `act_batch` returned as one."""
    match state:
        case PolicyState() as latents, int():
            return len(latents.action)
    raise UserError(f"state must be what act or act_batch returned beside the action, is of type {type(state).__name__}")


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
        self._dream = jax.jit(partial(decoded_dream, self.networks))
        self._steps = {greedy: compiled_act(self.networks, greedy) for greedy in (True, False)}

    def __repr__(self) -> str:
        return f"<Agent of {self.config.env.id}: {self.run.path}, environment step {self.env_step}>"

    @classmethod
    def load(cls, run: str | Path, *, checkpoint: str = "latest", root: str = "runs", seed: int = 0, env: Any = None) -> Agent:
        """The agent of a run: a path, an id under `root`, or `latest`; or one that `save` wrote.

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
        if state is None:
            self._adapter.begin()
        elif (count := environments_of(state)) != 1:
            raise UserError(f"state is of {count} environments: act takes that of one, act_batch that of several")
        flat = {name: values[None] for name, values in self._flatten(observation).items()}
        action, new = self._act(flat, np.array([state is None]), state, greedy=greedy)
        return self._adapter.to_env(action[0]), new

    def act_batch(
        self, observations: Any, state: State | None = None, is_first: Any = None, *, greedy: bool = True
    ) -> tuple[Any, State]:
        """Choose an action for each of N environments side by side, as a `gymnasium.vector.VectorEnv` has them.

        Args:
            observations: of the run's environment, batched as a vector environment batches them.
            state: what the call before returned, for as many environments; None for the first observations.
            is_first: [N] where an episode begins with this observation; everywhere without a state, else nowhere.
            greedy: the most probable actions; else samples.

        Returns the actions, batched in the same way, and the state for the next call.

        Raises UserError for observations of another shape or another N, and for a run that stacks frames.
        """
        if self.config.env.frame_stack > 1:
            raise UserError(
                f"env.frame_stack={self.config.env.frame_stack}: act_batch keeps no frames; use act, one agent each"
            )
        sizes = {len(leaf) if np.ndim(leaf) else 0 for leaf in jax.tree.leaves(observations)}
        known = sizes if state is None else {environments_of(state)}
        if len(sizes | known) != 1 or known == {0}:
            raise UserError(f"observations are of {sorted(sizes)} environments, the state of {sorted(known)}: give N of each")
        count = known.pop()
        first = np.full(count, state is None) if is_first is None else np.asarray(is_first, np.bool_)
        if first.shape != (count,):
            raise UserError(f"is_first has shape {first.shape}, not ({count},): one for each environment")
        space = self._adapter.env.observation_space
        own = list(iterate(batch_space(space, count), observations))
        if len(own) != count:
            raise UserError(f"observations are {len(own)} of length {count}: stack them as a vector environment does")
        singles = [self._flatten(single) for single in own]
        flat = {name: np.stack([single[name] for single in singles]) for name in singles[0]}
        actions, new = self._act(flat, first, state, greedy=greedy)
        chosen = [self._adapter.to_env(action) for action in actions]
        batch: Any = create_empty_array(self._adapter.env.action_space, count)
        return concatenate(self._adapter.env.action_space, chosen, batch), new

    def dream(self, observation: Any, horizon: int = 15, state: State | None = None, *, seed: int = 0) -> Imagined:
        """What the agent imagines from an observation on, with its policy acting (sampled, as the dreams it learns from).

        Args:
            observation: one of the run's environment as `act` takes it, or N of them as `act_batch` does.
            horizon: imagined steps H.
            state: what `act` or `act_batch` returned before this observation; None: it is the first of an episode.
            seed: of the actions and of what happens; of a longer dream the beginning is the same.

        Returns the environment's own actions [H, ...], flat observations by name as `export` has them (images as bytes,
        discrete ones left out), rewards [H] and probabilities that the episode goes on [H], as NumPy. With a batch, each
        is [H, N, ...].

        Raises UserError for a horizon below 1, and for what `act_batch` refuses.
        """
        if horizon < 1:
            raise UserError(f"horizon must be at least 1, not {horizon}")
        batch = create_empty_array(self._adapter.env.observation_space, 1)
        axes = [max(map(np.ndim, jax.tree.leaves(given)), default=0) for given in (observation, batch)]
        single = axes[0] < axes[1]
        if self.config.env.frame_stack > 1:
            raise UserError(f"env.frame_stack={self.config.env.frame_stack}: dream knows one frame, not those before it")
        _, (known, _) = (self.act if single else self.act_batch)(observation, state)
        count, networks = len(known.action), self.networks
        rng = np.random.Generator(np.random.PCG64(seed))
        size = networks.spec.action.shape[0]
        uniform = rng.random((horizon, count, size + networks.rssm.groups), np.float32)
        noise = DreamNoise(uniform[..., :size], uniform[..., size:])
        gamma = np.float32(self.config.behavior.gamma)
        dream = jax.device_get(self._dream(self.all_params, known.latent, noise, gamma))
        own = np.asarray(spaces.actions_of(self._adapter.env.action_space, dream.actions.reshape(-1, size)))
        seen = dream.observations
        for name in (name for name in seen if networks.spec.observations[name].is_image):
            seen[name] = np.rint(255 * seen[name]).astype(np.uint8)
        found = dream._replace(actions=own.reshape(horizon, count, *own.shape[1:]))
        return jax.tree.map(lambda leaf: leaf[:, 0], found) if single else found

    def evaluate(self, episodes: int = 100, *, seed: int = 0, greedy: bool = True, num_envs: int = 20) -> EvaluationResult:
        """Play whole episodes: their returns and lengths, the same as `python -m dreamerjax.evaluate` finds with this seed.

        Raises EnvironmentFault for what the environment does wrong, UserError for numbers below 1 and a negative seed.
        """
        for name, value, least in (("episodes", episodes, 1), ("num_envs", num_envs, 1), ("seed", seed, 0)):
            if value < least:
                raise UserError(f"{name} must be at least {least}, not {value}")
        with closing(make_vector_env(self.config.env, min(episodes, num_envs), self._source)) as envs:
            policy = Policy(self.networks, self.params, envs.num_envs, seed, greedy=greedy)
            return play_episodes(envs, policy, episodes, seed, longest=longest_episode(self.config, self._source))

    def save(self, path: str | Path) -> Path:
        """Write the agent into a new folder that `load` and `evaluate run=` take as they take its run.

        It is a run directory with a checkpoint of the parameters alone: to act, dream and evaluate with, not to resume.

        Raises UserError if there is something at `path` already, or it cannot be written; exit code 1.
        """
        folder = user_path(path).absolute()
        with file_faults(folder):
            folder.mkdir(parents=True)
        average = {name: part for name, part in self.all_params.items() if name != "statistics"}
        store = CheckpointStore(folder / "checkpoints" / "latest", 1)
        arrays = {"train": {"average": average, "statistics": self.all_params["statistics"]}}
        store.save(self.env_step, arrays, None, {"family": compatibility.fingerprint(self.config, self.spec)})
        store.close()
        write_text(folder / "config.yaml", config_to_yaml(self.config))
        source = {"run": str(self.run.path), "env_step": self.env_step}
        write_json(folder / "meta.json", {**self.run.meta, "source": source})  # last: it makes the folder a run
        return folder

    def export(self, path: str | Path, *, greedy: bool = True) -> Path:
        """Write the policy into one file that jax alone can run, on any number of environments and any platform (`jax.export`).

        What is called takes flat observations {name: [N, size]} (a bare space is "state" or "image"), is_first [N] bool, the
        state of the call before, seed uint32 and the number of the call uint32. It returns the environments' own actions
        [N, ...] and the new state; of equal seeds and numbers they are those of `act_batch`. docs/python.md has a loader.

        Raises UserError if the file cannot be written; exit code 1.
        """
        count = export.symbolic_shape("n")[0]
        observations = {
            name: jax.ShapeDtypeStruct((count, *entry.shape), entry.dtype) for name, entry in self.spec.observations.items()
        }
        single = initial_policy_state(self.networks, 1)
        state = {"deter": single.latent.deter, "stoch": single.latent.stoch, "action": single.action}
        states = {name: jax.ShapeDtypeStruct((count, *leaf.shape[1:]), leaf.dtype) for name, leaf in state.items()}

        def step(
            observations: Any, is_first: jax.Array, state: dict[str, jax.Array], seed: jax.Array, number: jax.Array
        ) -> tuple[jax.Array, dict[str, jax.Array]]:
            key = jax.random.fold_in(jax.random.key(seed), number)
            before = PolicyState(Latent(state["deter"], state["stoch"]), state["action"])
            action, new = act(self.networks, self.params, before, Seen(observations, is_first), key, greedy=greedy)
            own = spaces.actions_of(self._adapter.env.action_space, action)
            return own, {"deter": new.latent.deter, "stoch": new.latent.stoch, "action": new.action}

        number = jax.ShapeDtypeStruct((), np.uint32)
        exported = export.export(jax.jit(step), platforms=PLATFORMS)(
            observations, jax.ShapeDtypeStruct((count,), np.bool_), states, number, number
        )
        file = user_path(path)
        with file_faults(file):
            file.write_bytes(exported.serialize())
        return file

    def _flatten(self, observation: Any) -> Arrays:
        try:
            return self._adapter.flatten(observation)
        except NotAcceptedError as error:
            raise UserError(f"this observation is not of {self.config.env.id}: {error}") from error

    def _act(self, flat: Arrays, first: np.ndarray, state: State | None, *, greedy: bool) -> tuple[np.ndarray, State]:
        policy_state, count = (initial_policy_state(self.networks, len(first)), 0) if state is None else state
        copied = jax.tree.map(jnp.copy, policy_state)  # the compiled step reuses its state's memory; the caller keeps theirs
        action, new, _, _ = self._steps[greedy](self.params, copied, Seen(flat, first), self._key, np.int32(count))
        return np.asarray(action), (new, count + 1)

    def make_env(self, render_mode: str | None = None) -> gym.Env[Any, Any]:
        """The run's environment as gymnasium has it: with its arguments, time limit, repeated actions and pixels.

        Raises UserError if it cannot be built.
        """
        return gymnasium_env(self.config.env, render_mode, self._source)
