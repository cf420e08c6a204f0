"""What the check of an environment says about sound environments and about each fault."""

from __future__ import annotations

import sys
import time
import warnings
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.spaces import Box, Discrete, MultiBinary

from dreamerjax import check_env
from dreamerjax.config.cli import main


class Toy(gym.Env[Any, Any]):
    """Two numbers at random; reward is the action; a tenth of the steps is the last of an episode. And one fault."""

    observation_space: gym.Space[Any] = Box(-1.0, 1.0, (2,), np.float32)
    action_space: gym.Space[Any] = Discrete(2)
    draws = 0  # of all environments together

    def __init__(self, fault: str = "") -> None:
        self._fault, self._steps = fault, 0
        if fault == "action_space":
            self.action_space = MultiBinary(2)
        if fault == "observation_space":
            self.observation_space = gym.spaces.Text(8)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=None if self._fault == "ignores the seed" else seed)
        self._steps = 0
        return self._draw(), {}

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        self._steps += 1
        observation = self._draw()
        if self._fault == "raises" and self._steps > 3:
            raise KeyError("wheel")
        if self._fault == "exits":
            sys.exit(0)
        if self._fault == "slow":
            time.sleep(0.01)
        return observation, self._reward(int(action)), self._terminated(), False, {}

    def _draw(self) -> Any:
        numbers = self.np_random.uniform(-1.0, 1.0, 2).astype(np.float32)
        Toy.draws += 1
        if self._fault == "shares state" and self._steps:
            numbers[1] = Toy.draws % 100 / 100
        if self._fault == "one beginning":
            numbers[:] = self._steps / 100
        if self._fault == "still":
            numbers *= np.array([0.0, 0.01], np.float32)
        factor = 500.0 if self._fault == "outside" and self._steps else 1.0
        observation = factor * numbers
        observation[0] = np.nan if self._fault == "NaN" and self._steps == 5 else observation[0]
        changes = {"float64": observation.astype(np.float64), "transposed": observation[:, None], "too long": np.zeros(3)}
        return changes.get(self._fault, observation)

    def _reward(self, action: int) -> Any:
        rewards = {"huge": 1e9, "infinite": np.inf, "none": None, "zero": 0.0, "tiny": 1e-3 * action}
        return rewards.get(self._fault, float(action))

    def _terminated(self) -> bool:
        if self._fault in ("fixed length", "one beginning"):
            return self._steps >= 20
        return self._fault != "endless" and bool(self.np_random.random() < 0.1)


gym.register("CheckedToy-v0", f"{__name__}:Toy")
gym.register("CheckedToy-v1", f"{__name__}:Toy", nondeterministic=True)
gym.register("CheckedToy-v2", f"{__name__}:Toy", max_episode_steps=100_000)


@pytest.fixture(autouse=True)
def _brief(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(check_env, "STEPS", 1000)
    monkeypatch.setattr(check_env, "SECONDS_ALONE", 1.0)
    monkeypatch.setattr(check_env, "SECONDS_TOGETHER", 0.05)


def check(capsys: pytest.CaptureFixture[str], *overrides: str) -> tuple[int, str]:
    """Exit code and output; as in a user's process, warnings are no errors."""
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        code = main(check_env.run, overrides)
    captured = capsys.readouterr()
    assert not captured.err
    return code, captured.out


def found(output: str) -> list[str]:
    """Problems and remarks."""
    return [line for line in output.splitlines() if line.startswith(("problem: ", "remark: "))]


def test_cartpole(capsys: pytest.CaptureFixture[str]) -> None:
    code, output = check(capsys, "env=cartpole_state", "train.seed=3")
    assert (code, found(output)) == (0, [])
    lines = output.splitlines()
    assert lines[0] == "CartPole-v1: time limit 500 steps"
    assert "  state        float32 (4,)" in lines
    assert "  action       Discrete(2)" in lines
    assert "  action       discrete, int32 (1,), 2 choices, one-hot in 2 numbers" in lines
    assert "  reward       1 to 1, 100.0% of them not 0" in lines
    assert "  determinism  the same trajectory with the same seed and actions, another one with another seed" in lines
    assert lines[-1] == "no problems, no remarks"
    assert "random policy, seed 3: 1,000 steps, whole episodes: " in output


def test_cartpole_from_pictures(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("pygame")
    code, output = check(capsys, "env=cartpole_pixels", "env.image_size=[16,32]", "env.frame_stack=2")
    assert code == 0
    assert "  observation  Box(0, 255, (400, 600, 3), uint8)\n" in output
    assert "  image        image, uint8 (16, 32, 6)\n" in output
    assert "(3,072 components, " in output
    assert "beyond 10 in size" not in output


def test_pendulum(capsys: pytest.CaptureFixture[str]) -> None:
    code, output = check(capsys, "env=pendulum", "env.time_limit=50", "env.action_repeat=2", "env.num_envs=2")
    assert code == 0
    assert output.startswith("Pendulum-v1: time limit 50 steps, each action repeated 2 times\n")
    assert "  action       continuous, float32 (1,), -1 to 1 between the environment's bounds" in output
    assert "1,000 steps, whole episodes: 40\n" in output
    assert "  length       mean 25, min 25, max 25\n  ends         0 terminated, 40 truncated\n" in output
    assert "with 2 side by side (sync)\n" in output


def test_discrete_observations(capsys: pytest.CaptureFixture[str]) -> None:
    code, output = check(capsys, "env.id=Blackjack-v1")
    assert code == 0
    assert "  1            int32 (1,), 11 classes, one-hot in 11 numbers\n" in output
    assert "  1            1 to 10 (1 component, 0 constant)\n" in output


ENDS = "training would end with: after environment step"
PROBLEMS = {
    "raises": f"{ENDS} 6: environment CheckedToy-v0 raised KeyError in step (test_check_env.py, ",
    "exits": f"{ENDS} 0: environment CheckedToy-v0 raised SystemExit in step (test_check_env.py, ",
    "NaN": f"{ENDS} 7: environment CheckedToy-v0 in step: observation 'state' must be finite",
    "infinite": f"{ENDS} 0: environment CheckedToy-v0 in step: reward must be finite, is inf",
    "none": f"{ENDS} 0: environment CheckedToy-v0 in step: reward must be a number, is None",
    "too long": f"{ENDS} 0: environment CheckedToy-v0 in reset: observation 'state' must have the ",
    "outside": "observation 'state' component 0 is ",
    "transposed": "observation 'state' has shape (2, 1), its space (2,) (1,",
    "endless": "no episode ended within 1,000 steps and there is no time limit",
    "huge": "rewards and returns are 1e+09 to ",
    "ignores the seed": "reset ignores its seed: observation 'state' differs after the same seed and 0 actions; draw from",
    "shares state": "not deterministic: observation 'state' differs after the same seed and ",
}


@pytest.mark.parametrize("fault", PROBLEMS)
def test_a_problem_is_named_and_the_exit_code_is_1(fault: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, output = check(capsys, "env.id=CheckedToy-v0", f"env.kwargs.fault='{fault}'")
    assert code == 1
    assert any(line.startswith(f"problem: {PROBLEMS[fault]}") for line in found(output)), output


REMARKS = {
    "float64": "observation 'state' is float64, its space float32: it is converted",
    "zero": "no reward but 0 in 1,000 random steps",
    "tiny": "returns are at most 0.0",
    "fixed length": "every episode is terminated at step 20: if that is a time limit, return truncated instead",
    "one beginning": "another seed leads to the same episode",
    "still": "observation 'state': component 1 moved by less than 0.1",
    "slow": "training will mostly wait for the environment",
}


@pytest.mark.parametrize("fault", REMARKS)
def test_a_remark_leaves_the_exit_code_0(fault: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, output = check(capsys, "env.id=CheckedToy-v0", f"env.kwargs.fault='{fault}'", "model.standardize=false")
    assert code == 0
    assert any(REMARKS[fault] in line for line in found(output)), output


def test_a_model_that_standardizes_minds_no_small_numbers(capsys: pytest.CaptureFixture[str]) -> None:
    code, output = check(capsys, "env.id=CheckedToy-v0", "env.kwargs.fault=still", "model.standardize=true")
    assert code == 0
    assert REMARKS["still"] not in output


def test_gymnasium_is_heard_once(capsys: pytest.CaptureFixture[str]) -> None:
    _, output = check(capsys, "env.id=CheckedToy-v0", "env.kwargs.fault=outside")
    warning = "remark: warning: The obs returned by the `step()` method is not within the observation space."
    assert found(output).count(warning) == 1
    _, output = check(capsys, "env.id=CheckedToy-v0", "env.kwargs.fault='ignores the seed'")
    assert "remark: gymnasium's checker: Using `env.reset(seed=123)` is non-deterministic" in output


def test_what_is_registered_counts(capsys: pytest.CaptureFixture[str]) -> None:
    code, output = check(capsys, "env.id=CheckedToy-v1", "env.kwargs.fault='ignores the seed'")
    assert code == 0
    assert "remark: not deterministic, as it is registered: " in output
    code, output = check(capsys, "env.id=CheckedToy-v2", "env.kwargs.fault=endless")
    assert code == 0
    assert "remark: no episode ended within 1,000 steps\n" in output
    code, _ = check(capsys, "env.id=CheckedToy-v0", "env.kwargs.fault=endless", "env.time_limit=100")
    assert code == 0


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["env.id=CheckedToi-v0"], "env.id=CheckedToi-v0: NameNotFound: "),
        (["env.id=no_such_module:Toy-v0"], "env.id=no_such_module:Toy-v0: ModuleNotFoundError: "),
        (["env.id=CheckedToy-v0", "env.kwargs.fualt=x"], "env.id=CheckedToy-v0: TypeError: "),
        (["env.id=CheckedToy-v0", "env.kwargs.fault=action_space"], "env.id=CheckedToy-v0: action space MultiBinary(2) is not"),
        (
            ["env.id=CheckedToy-v0", "env.kwargs.fault=observation_space"],
            "env.id=CheckedToy-v0: observation 'state': space Text(",
        ),
        (["env.num_envs=0"], "env.num_envs must be at least 1, not 0"),
    ],
)
def test_what_cannot_be_made_is_one_line(overrides: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(check_env.run, overrides) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith(f"error: {message}")
    assert captured.err.count("\n") == 1
    assert not captured.out
