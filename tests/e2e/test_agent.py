"""A trained agent from Python."""

from __future__ import annotations

import json
import re
import runpy
import sys
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import gymnasium as gym
import jax
import numpy as np
import pytest
from jax import export

from dreamerjax import Agent
from dreamerjax.agent.policy import Policy
from dreamerjax.agent.state import acting_params
from dreamerjax.core.errors import UserError
from dreamerjax.envs.spaces import action_converter, action_spec, actions_of
from tests.e2e import trials
from tests.e2e.test_evaluation import evaluate_here

ROOT = Path(__file__).parents[2]
EXAMPLE, PAGE = ROOT / "examples" / "act.py", ROOT / "docs" / "python.md"


@pytest.fixture(scope="module")
def agent(reference: Path) -> Agent:
    return Agent.load(reference)


def test_example(poles: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["act.py", str(poles)])
    runpy.run_path(str(EXAMPLE), run_name="__main__")
    word, number = capsys.readouterr().out.split()
    assert word == "return"
    assert 1 <= int(number) <= 500


def play(agent: Agent, steps: int, *, greedy: bool) -> list[int]:
    """The actions of the first `steps` steps of an episode that does not end by itself."""
    env = gym.make(agent.config.env.id).unwrapped
    observation, _ = env.reset(seed=3)
    state, actions = None, []
    for _ in range(steps):
        action, state = agent.act(observation, state, greedy=greedy)
        assert env.action_space.contains(action)
        actions.append(int(action))
        observation, *_ = env.step(action)
    return actions


def test_acts_as_the_policy_of_an_evaluation_does(agent: Agent) -> None:
    """One environment at a time or as one of a vector: the same greedy actions."""
    env = gym.make(agent.config.env.id).unwrapped
    observation, _ = env.reset(seed=3)
    policy, is_first, actions = Policy(agent.networks, agent.params, 1, 0, greedy=True), np.array([True]), []
    for _ in range(20):
        action, _ = policy({"state": observation[None]}, is_first)
        actions.append(int(action[0, 0]))
        observation, *_ = env.step(actions[-1])
        is_first = np.array([False])
    assert play(agent, 20, greedy=True) == actions


def test_sampled_actions_are_those_of_the_seed(reference: Path, agent: Agent) -> None:
    first = play(agent, 40, greedy=False)
    assert play(agent, 40, greedy=False) == first
    assert play(Agent.load(reference, seed=1), 40, greedy=False) != first
    assert set(first) == {0, 1}


def test_a_state_can_be_used_again(agent: Agent) -> None:
    observation = np.ones(4, np.float32)
    _, state = agent.act(observation)
    before = jax.tree.map(np.array, state[0])
    _, one = agent.act(2 * observation, state)
    _, other = agent.act(2 * observation, state)
    for left, right in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        np.testing.assert_array_equal(left, right)
    for left, right in zip(jax.tree.leaves(before), jax.tree.leaves(state[0]), strict=True):
        np.testing.assert_array_equal(left, right)
    assert not np.array_equal(one[0].latent.deter, state[0].latent.deter)


def test_a_batch_of_environments_gets_what_a_policy_for_them_does(agent: Agent) -> None:
    """Over three steps of a gymnasium.vector.VectorEnv, one of which an environment begins anew."""
    envs = gym.make_vec(agent.config.env.id, num_envs=3, vectorization_mode="sync")
    policy, state = Policy(agent.networks, agent.params, 3, 0, greedy=False), None
    observations, _ = envs.reset(seed=3)
    for is_first in ([True, True, True], [False, True, False], [False, False, False]):
        actions, state = agent.act_batch(observations, state, is_first, greedy=False)
        expected, _ = policy({"state": observations}, np.array(is_first))
        assert envs.action_space.contains(actions)
        assert actions.tolist() == expected[:, 0].tolist()
        observations, *_ = envs.step(actions)
    envs.close()
    observation = observations[0]
    assert agent.act_batch(observation[None])[0].tolist() == [agent.act(observation)[0]]


def test_the_loop_over_a_vector_environment_that_is_documented(poles: Path) -> None:
    """Where it says that an episode begins, one does: CartPole starts within 0.05 of the middle, and gives 1 a step."""
    (loop,) = (
        code for code in re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL) if "make_vec" in code
    )
    agent, begins = Agent.load(poles), []

    def act_batch(observations: Any, state: Any, is_first: Any) -> Any:
        middle = np.abs(observations).max(axis=1) <= 0.05
        assert middle[is_first].all()
        begins.append(is_first)
        return agent.act_batch(observations, state, is_first)

    told: dict[str, Any] = {"agent": SimpleNamespace(act_batch=act_batch)}
    exec(loop, told)
    lengths = [step for first in np.array([*begins, told["is_first"]]).T for step in np.diff(np.flatnonzero(first))]
    assert len(lengths) >= 20
    assert sorted(told["returns"]) == sorted(lengths)


@pytest.mark.parametrize(
    ("observations", "first", "said"),
    [
        (np.zeros((2, 4), np.float32), None, "observations are of [2] environments, the state of [3]"),
        (np.zeros((3, 5), np.float32), None, "this observation is not of trial_envs:Trial-v0: "),
        (np.float32(1), None, "observations are of [0] environments"),
        (np.zeros((3, 4), np.float32), [True], "is_first has shape (1,), not (3,)"),
        ([np.zeros(3, np.float32)] * 4, None, "observations are 4 of length 3: stack them"),
    ],
)
def test_a_wrong_batch_is_one_line(agent: Agent, observations: np.ndarray, first: list[bool] | None, said: str) -> None:
    _, state = agent.act_batch(np.zeros((3, 4), np.float32))
    with pytest.raises(UserError) as caught:
        agent.act_batch(observations, state, first)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_wrong_arguments_are_one_line(agent: Agent) -> None:
    seen, act_batch = np.zeros(4, np.float32), cast(Any, agent).act_batch
    act = cast(Any, agent).act
    for call, said in (
        (
            lambda: act(seen, act_batch(np.stack([seen] * 3))[1]),
            "state is of 3 environments: act takes that of one",
        ),
        (lambda: act(seen, act(seen)), "state must be what act or act_batch returned beside the action"),
        (lambda: act_batch(seen[None], 3), "state must be what act or act_batch returned beside the action"),
        (lambda: agent.evaluate(0), "episodes must be at least 1, not 0"),
        (lambda: agent.evaluate(1, num_envs=0), "num_envs must be at least 1, not 0"),
        (lambda: agent.evaluate(1, seed=-1), "seed must be at least 0, not -1"),
    ):
        with pytest.raises(UserError, match=said):
            call()


def test_evaluates_as_the_command_does(agent: Agent, tmp_path: Path) -> None:
    assert evaluate_here(f"run={agent.run.path}", "episodes=5", f"output={tmp_path / 'e.json'}") == 0
    result = agent.evaluate(5)
    assert json.loads((tmp_path / "e.json").read_text())["returns"] == result.returns.tolist()
    assert (result.lengths > 0).all()


def test_checkpoints_are_chosen_by_name(reference: Path, agent: Agent) -> None:
    assert agent.env_step == 120
    assert Agent.load(reference, checkpoint="best").env_step == trials.summary(reference)["best_step"]
    assert Agent.load(reference.name, root=str(reference.parent)).env_step == 120


def test_parameters_are_the_checkpoints(reference: Path, agent: Agent) -> None:
    arrays = trials.latest(reference).arrays["train"]
    saved = acting_params({**arrays["average"], "statistics": arrays["statistics"]})
    jax.tree.map(np.testing.assert_array_equal, agent.params, saved)


def test_what_cannot_be_loaded_is_one_line(copy: Path) -> None:
    with pytest.raises(UserError, match="no run at nowhere"):
        Agent.load("nowhere")
    with pytest.raises(UserError, match=r"no checkpoint in .*/bets"):
        Agent.load(copy, checkpoint="bets")
    config = copy / "config.yaml"
    config.write_text(config.read_text().replace("deter: 16", "deter: 32"))
    with pytest.raises(UserError, match=r"another model family: model\.deter is 16 there and 32 here"):
        Agent.load(copy)


@pytest.mark.parametrize("greedy", [True, False])
def test_an_exported_policy_acts_as_the_agent_does(agent: Agent, tmp_path: Path, greedy: bool) -> None:
    """With the loader of docs/python.md, on another number of environments than one."""
    path = agent.export(tmp_path / "policy.bin", greedy=greedy)
    policy = export.deserialize(bytearray(path.read_bytes()))
    (_, _, exported, *_), _ = jax.tree.unflatten(policy.in_tree, policy.in_avals)
    exported = jax.tree.map(lambda leaf: np.zeros((3, *leaf.shape[1:]), leaf.dtype), exported)
    rng, state = np.random.default_rng(0), None
    for number in range(4):
        observations, first = rng.normal(size=(3, 4)).astype(np.float32), np.full(3, number == 0)
        actions, state = agent.act_batch(observations, state, greedy=greedy)
        own, exported = policy.call({"state": observations}, first, exported, np.uint32(0), np.uint32(number))
        assert np.asarray(own).tolist() == actions.tolist()
        np.testing.assert_allclose(exported["deter"], state[0].latent.deter, atol=1e-5)
    with pytest.raises(ValueError, match="4"):
        policy.call({"state": np.zeros((3, 5), np.float32)}, first, exported, np.uint32(0), np.uint32(0))


def test_an_export_that_cannot_be_written_is_one_line(agent: Agent, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"policy\.bin") as caught:
        agent.export(tmp_path / "nowhere" / "policy.bin")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "space",
    [
        gym.spaces.Discrete(3, start=-1),
        gym.spaces.MultiDiscrete(np.array([[2, 3], [4, 5]]), start=np.array([[1, 0], [0, 7]])),
        gym.spaces.Box(np.array([[-3.0, 0.0]]), np.array([[1.0, 10.0]]), dtype=np.float64),
    ],
)
def test_traced_actions_are_converted_as_single_ones(space: gym.Space[Any]) -> None:
    spec = action_spec(space)
    rng = np.random.default_rng(0)
    actions = rng.integers(0, spec.sizes, (5, len(spec.sizes))) if spec.sizes else rng.normal(size=(5, *spec.shape))
    converted = jax.jit(partial(actions_of, space))(actions)
    singles = [action_converter(space)(action) for action in actions]
    np.testing.assert_allclose(converted, np.array(singles), rtol=1e-6)


def test_a_dream_of_one_and_of_many(agent: Agent) -> None:
    """Shapes, ranges, and that it begins with what the agent knows, and a longer dream as a shorter one."""
    observation = np.array([0.1, 0.2, 0.0, -0.1], np.float32)
    dream = agent.dream(observation, 5)
    assert {name: values.shape for name, values in dream.observations.items()} == {"state": (5, 4)}
    assert dream.actions.shape == dream.rewards.shape == dream.continues.shape == (5,)
    assert set(dream.actions.tolist()) <= {0, 1}
    assert ((dream.continues > 0) & (dream.continues <= 1)).all()
    for longer, short in zip(jax.tree.leaves(agent.dream(observation, 9)), jax.tree.leaves(dream), strict=True):
        np.testing.assert_allclose(longer[:5], short, rtol=1e-5, atol=1e-6)
    for again, first in zip(jax.tree.leaves(agent.dream(observation[None], 5)), jax.tree.leaves(dream), strict=True):
        np.testing.assert_allclose(again[:, 0], first, rtol=1e-5, atol=1e-6)
    many = agent.dream(np.stack([observation, -observation, observation]), 2)
    assert many.rewards.shape == many.actions.shape == (2, 3)
    assert not np.array_equal(many.observations["state"][:, 0], many.observations["state"][:, 1])
    assert not np.array_equal(agent.dream(observation, 5, seed=1).observations["state"], dream.observations["state"])
    _, state = agent.act(observation)
    later = agent.dream(observation, 5, state)
    assert not np.array_equal(later.observations["state"], dream.observations["state"])


def test_dreams_of_other_spaces(tmp_path: Path) -> None:
    """Named vectors without the discrete ones, several actions, pictures as bytes; stacked frames are refused."""
    mixed, pixels = tmp_path / "mixed", tmp_path / "pixels"
    assert trials.run_here(mixed, "env.id=sample_envs:Mixed-v0", *trials.RANDOM_ONLY) == 0
    agent = Agent.load(trials.only_run(mixed))
    with agent.make_env() as env:
        dream = agent.dream(env.reset(seed=0)[0], 3)
        assert all(env.action_space.contains(action) for action in dream.actions)
    vectors = {name for name, spec in agent.spec.observations.items() if spec.is_vector}
    assert set(dream.observations) == vectors < set(agent.spec.observations)
    seen = ("env.pixels=add", "env.image_size=[16,32]", "model.cnn_depth=1")
    assert trials.run_here(pixels, *seen, *trials.RANDOM_ONLY) == 0
    agent = Agent.load(trials.only_run(pixels))
    with agent.make_env() as env:
        image = agent.dream(env.reset(seed=0)[0], 2).observations["image"]
    assert (image.shape, image.dtype) == ((2, 16, 32, 3), np.uint8)
    agent.config.env.frame_stack = 2
    with pytest.raises(UserError, match=r"env\.frame_stack=2: dream knows one frame"):
        agent.dream(np.zeros(4, np.float32))


def test_a_wrong_dream_is_one_line(agent: Agent) -> None:
    for observation, horizon, said in (
        (np.zeros(4, np.float32), 0, "horizon must be at least 1, not 0"),
        (np.zeros(5, np.float32), 3, "this observation is not of trial_envs:Trial-v0: "),
        (np.zeros((2, 5), np.float32), 3, "this observation is not of trial_envs:Trial-v0: "),
        (None, 3, "this observation is not of trial_envs:Trial-v0: "),
    ):
        with pytest.raises(UserError) as caught:
            agent.dream(observation, horizon)
        assert said in str(caught.value)
        assert "\n" not in str(caught.value)


def test_a_saved_agent_is_the_agent(agent: Agent, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Without its run: it acts, dreams and evaluates alike; training does not go on from it, and says so in one line."""
    folder = agent.save(tmp_path / "agents" / "first")
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    assert size < 0.5 * sum(path.stat().st_size for path in (agent.run.checkpoints / "latest").rglob("*") if path.is_file())
    loaded = Agent.load(folder)
    assert loaded.env_step == agent.env_step == 120
    jax.tree.map(np.testing.assert_array_equal, loaded.all_params, agent.all_params)
    assert play(loaded, 5, greedy=False) == play(Agent.load(agent.run.path), 5, greedy=False)
    assert loaded.evaluate(2).returns.tolist() == agent.evaluate(2).returns.tolist()
    again = Agent.load(loaded.save(tmp_path / "again"))
    assert play(again, 3, greedy=True) == play(agent, 3, greedy=True)
    with pytest.raises(UserError, match=r"cannot write .*first: File exists"):
        agent.save(folder)
    assert trials.resume_here(folder) == 2
    told = f"error: {folder} holds an agent without its replay, as Agent.save writes it: it acts, and is not resumed\n"
    assert capsys.readouterr().err == told
    assert trials.run_here(tmp_path / "runs", trials.TRIAL, "mode=dreamer", f"from={folder}") == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: {folder} holds an agent that Agent.save wrote")
    assert error.count("\n") == 1


def test_a_file_is_no_agent(agent: Agent, tmp_path: Path) -> None:
    (tmp_path / "policy.bin").write_bytes(b"policy")
    with pytest.raises(UserError, match=r"no run at .*policy\.bin: give a run directory") as caught:
        Agent.load(tmp_path / "policy.bin")
    assert "\n" not in str(caught.value)
