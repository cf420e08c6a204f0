"""Whatever an environment does: it is accepted where that is harmless, or it becomes one line that names it."""

from __future__ import annotations

import re
import signal
from collections.abc import Callable, Iterator
from decimal import Decimal
from fractions import Fraction
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.spaces import Box, Dict, Discrete, MultiBinary

from dreamerjax.config.schema import EnvConfig, Vectorization
from dreamerjax.core.errors import EnvironmentFault, Interrupt, UserError, warn_once
from dreamerjax.envs import Adapter, Given, Stepper, make_env, make_vector_env
from dreamerjax.envs.image_view import ImageView

SPACE = Dict({"numbers": Box(-1.0, 1.0, (2,), np.float32), "kind": Discrete(3, start=1)})
GOOD = {"numbers": np.zeros(2, np.float32), "kind": 1}


class Unspeakable(Exception):
    def __str__(self) -> str:
        raise ValueError("no text")


class Free(gym.Env[Any, Any]):
    """Returns what it is told to."""

    action_space = Discrete(2)

    def __init__(self, space: gym.Space[Any] = SPACE) -> None:
        self.observation_space = space
        self.returns: Any = GOOD
        self.reward: Any = 1.0
        self.ends: Any = (False, False)
        self.act: Callable[[], None] = lambda: None
        self.options: Any = "never reset"

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        self.options = options
        return self.returns, {}

    def step(self, action: Any) -> Any:
        self.act()
        return (self.returns, self.reward, *self.ends, {})

    def close(self) -> None:
        self.act()


def adapted(space: gym.Space[Any] = SPACE, view: ImageView | None = None) -> tuple[Free, Adapter]:
    env = Free(space)
    return env, Adapter(env, "Free-v0", view or ImageView())


def step(env: Adapter) -> tuple[Any, float, bool, bool, dict[str, Any]]:
    return env.step(np.zeros(1, np.int32))


@pytest.mark.parametrize(
    "reward",
    [1, True, np.float32(1), np.int64(1), np.bool_(True), np.array(1.0), np.array([1.0]), np.array([[1]]), [1.0], (1,)],
)
def test_rewards_that_are_one_number(reward: Any) -> None:
    env, adapter = adapted()
    env.reward = reward
    result = step(adapter)[1]
    assert (result, type(result)) == (1.0, float)


@pytest.mark.parametrize(
    ("reward", "words"),
    [
        (np.ones(2), "reward must be a number, is an array of float64 of shape (2,)"),
        (np.zeros(0), "reward must be a number, is an array of float64 of shape (0,)"),
        (None, "reward must be a number, is None"),
        ("1.0", "reward must be a number, is '1.0'"),
        (1j, "reward must be a number, is of type complex"),
        (Decimal(1), "reward must be a number, is of type Decimal"),
        (Fraction(1, 2), "reward must be a number, is of type Fraction"),
        ({"a": 1}, "reward must be a number, is of type dict"),
        ([1.0, [2.0, 3.0]], "reward must be a number, is of type list"),
        (np.nan, "reward must be finite, is nan"),
        (np.array([-np.inf]), "reward must be finite, is -inf"),
        (1e39, "reward must be finite, is 1e+39"),
        (10**400, "reward must be finite, is 1000"),
    ],
)
def test_rewards_that_are_none(reward: Any, words: str) -> None:
    env, adapter = adapted()
    env.reward = reward
    with pytest.raises(EnvironmentFault, match=re.escape(f"environment Free-v0 in step: {words}")):
        step(adapter)


@pytest.mark.parametrize("end", [np.bool_(True), 1, np.array([True]), np.array(1), [True]])
def test_ends_that_are_one_bool(end: Any) -> None:
    env, adapter = adapted()
    env.ends = (end, False)
    assert step(adapter)[2:4] == (True, False)


@pytest.mark.parametrize("end", [None, "False", np.array([True, False]), 0.5, [None], [[], [True]]])
def test_ends_that_are_none(end: Any) -> None:
    env, adapter = adapted()
    env.ends = (False, end)
    with pytest.raises(EnvironmentFault, match="environment Free-v0 in step: truncated must be true or false, is "):
        step(adapter)


@pytest.mark.parametrize(
    "observation",
    [
        GOOD | {"numbers": np.zeros(2)},
        GOOD | {"numbers": [0, 0]},
        GOOD | {"numbers": np.zeros((1, 2))},
        GOOD | {"numbers": np.zeros((2, 1), np.int8)},
        GOOD | {"numbers": np.array([0.0, 1e-300])},
        GOOD | {"kind": np.int8(1)},
        GOOD | {"kind": np.array([1])},
        GOOD | {"kind": 1.0},
        GOOD | {"kind": True},
        GOOD | {"kind": np.uint64(1)},
        GOOD | {"surplus": "words"},
    ],
)
def test_observations_that_are_taken_as_their_space_says(observation: Any) -> None:
    env, adapter = adapted()
    env.returns = observation
    seen = step(adapter)[0]
    assert {name: (values.dtype, values.tolist()) for name, values in seen.items()} == {
        "numbers": (np.float32, [0.0, 0.0]),
        "kind": (np.int32, [0]),
    }


@pytest.mark.parametrize(
    ("observation", "words"),
    [
        (GOOD | {"numbers": np.array([0.0, np.nan])}, "'numbers' must be finite, is [0.0, nan]"),
        (GOOD | {"numbers": np.array([0.0, 1e300])}, "'numbers' must be finite, is [0.0, inf]"),
        (GOOD | {"numbers": np.zeros(3)}, "'numbers' must have the shape (2,), is an array of float64 of shape (3,)"),
        (GOOD | {"numbers": ["1", "2"]}, "'numbers' must be numbers, is of type list"),
        (GOOD | {"numbers": np.zeros(2, np.complex64)}, "'numbers' must be numbers, is an array of complex64"),
        (GOOD | {"numbers": [0.0, [1.0, 2.0]]}, "'numbers' must have the shape (2,), is of type list"),
        (GOOD | {"numbers": None}, "'numbers' must have the shape (2,), is None"),
        (GOOD | {"kind": 0}, "'kind' must be in Discrete(3, start=1), is [0]"),
        (GOOD | {"kind": 4}, "'kind' must be in Discrete(3, start=1), is [4]"),
        (GOOD | {"kind": 2**32 + 1}, "'kind' must be in Discrete(3, start=1), is [4294967297]"),
        (GOOD | {"kind": 1.5}, "'kind' must be in Discrete(3, start=1), is [1.5]"),
        (GOOD | {"kind": np.nan}, "'kind' must be in Discrete(3, start=1), is [nan]"),
        (GOOD | {"kind": "1"}, "'kind' must be in Discrete(3, start=1), is [1]"),
        ({"numbers": np.zeros(2)}, "must hold 'kind', is the keys ['numbers']"),
        (np.zeros(2), "must hold 'kind', is an array of float64 of shape (2,)"),
        (None, "must hold 'kind', is None"),
    ],
)
def test_observations_that_do_not_fit(observation: Any, words: str) -> None:
    env, adapter = adapted()
    env.returns = observation
    for call, method in ((adapter.reset, "reset"), (lambda: step(adapter), "step")):
        with pytest.raises(EnvironmentFault, match=re.escape(words)) as caught:
            call()
        assert str(caught.value).startswith(f"environment Free-v0 in {method}: observation ")


def test_a_transposed_observation_is_not_taken() -> None:
    env, adapter = adapted(Box(-1.0, 1.0, (2, 3)))
    env.returns = np.zeros((3, 2), np.float32)
    with pytest.raises(EnvironmentFault, match=r"must have the shape \(2, 3\), is an array of float32 of shape \(3, 2\)"):
        step(adapter)


@pytest.mark.parametrize("picture", [np.full((4, 4), 9), np.full((4, 4, 1), 9, np.int64), [[9] * 4] * 4])
def test_pictures_of_other_integers(picture: Any) -> None:
    env, adapter = adapted(Box(0, 255, (4, 4, 1), np.uint8))
    env.returns = picture
    seen = step(adapter)[0]["image"]
    assert (seen.dtype, seen.shape, seen.max()) == (np.uint8, (4, 4, 1), 9)


@pytest.mark.parametrize("picture", [np.zeros((4, 4, 1)), np.full((4, 4, 1), 256), np.full((4, 4, 1), -1), None])
def test_pictures_that_are_none(picture: Any) -> None:
    env, adapter = adapted(Box(0, 255, (4, 4, 1), np.uint8))
    env.returns = picture
    with pytest.raises(EnvironmentFault, match="environment Free-v0 in step: observation 'image' must "):
        step(adapter)


@pytest.mark.parametrize(
    ("space", "buffer"),
    [
        (Box(-9.0, 9.0, (2,), np.float32), np.zeros(2, np.float32)),
        (Box(0, 255, (4, 4, 1), np.uint8), np.zeros((4, 4, 1), np.uint8)),
        (MultiBinary(2), np.zeros(2, np.int8)),
    ],
)
def test_what_is_kept_is_a_copy(space: gym.Space[Any], buffer: np.ndarray) -> None:
    env, adapter = adapted(space, ImageView(frames=2) if buffer.ndim == 3 else None)
    env.returns = buffer
    kept = next(iter(adapter.reset()[0].values()))
    buffer += 1
    later = next(iter(step(adapter)[0].values()))
    buffer += 1
    assert kept.max() == 0
    assert later.max() == 1
    if buffer.ndim == 3:
        assert later[0, 0].tolist() == [0, 1]


def register(name: str, make: Any) -> None:
    gym.register(name, make, disable_env_checker=True)


def test_streams_that_share_one_array() -> None:
    buffer = np.zeros(2, np.float32)
    register("Shared-v0", lambda: Free(Box(-9.0, 9.0, (2,), np.float32)))
    envs: Any = make_vector_env(EnvConfig(id="Shared-v0"), 2)
    try:
        for number, env in enumerate(envs.envs, 1):
            env.unwrapped.returns = buffer
            env.unwrapped.act = lambda number=number: buffer.fill(number)
        stepper = Stepper(envs)
        stepper.reset(np.ones(2, np.bool_), [0, 1], 0)
        np.testing.assert_array_equal(stepper.step(np.zeros((2, 1), np.int32), 0)[0]["state"], [[1, 1], [2, 2]])
    finally:
        envs.close()
        del gym.registry["Shared-v0"]


@pytest.mark.parametrize(
    "error", [SystemExit(), SystemExit("bye"), GeneratorExit(), MemoryError(), StopIteration(3), Unspeakable()]
)
def test_whatever_is_raised_is_one_line(error: BaseException) -> None:
    env, adapter = adapted()

    def act() -> None:
        raise error

    env.act = act
    with pytest.raises(
        EnvironmentFault, match=rf"environment Free-v0 raised {type(error).__name__} in step \(test_boundary.py, "
    ):
        step(adapter)
    adapter.close()


@pytest.mark.parametrize(
    ("method", "result", "words"),
    [
        ("step", (GOOD, 1.0, False, {}), "(expected 5, got 4); step must return observation, reward, terminated, "),
        ("step", None, "cannot unpack non-iterable NoneType object; step must return observation, reward, terminated, "),
        ("reset", (GOOD, {}, {}), "(expected 2); reset must return observation, info"),
    ],
)
def test_results_of_another_length(monkeypatch: pytest.MonkeyPatch, method: str, result: Any, words: str) -> None:
    env, adapter = adapted()
    monkeypatch.setattr(env, method, lambda *args, **kwargs: result)
    with pytest.raises(EnvironmentFault, match=re.escape(words)):
        step(adapter) if method == "step" else adapter.reset()


@pytest.mark.parametrize("hashed", [{"__hash__": lambda self: 1}, {}])
def test_environments_that_call_each_other_equal(hashed: dict[str, Any]) -> None:
    """As a dataclass does, which has no hash then."""
    source = Given(type("Equal", (Free,), {"__eq__": lambda *_: True, **hashed}))
    envs: Any = make_vector_env(EnvConfig(id=source.id), 2, source)
    assert envs.envs[0].unwrapped is not envs.envs[1].unwrapped
    envs.close()


@pytest.fixture
def _handler() -> Iterator[None]:
    """As in a run: SIGINT does not raise by itself."""
    before = signal.signal(signal.SIGINT, lambda number, frame: None)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("_handler")
def test_a_keyboard_interrupt_of_its_own_is_a_fault_and_the_users_is_not() -> None:
    env, adapter = adapted()

    def own() -> None:
        raise KeyboardInterrupt

    def users() -> None:
        raise Interrupt

    env.act = own
    with pytest.raises(EnvironmentFault, match="raised KeyboardInterrupt in step"):
        step(adapter)
    env.act = users
    with pytest.raises(KeyboardInterrupt):
        step(adapter)


@pytest.mark.parametrize("error", [RuntimeError("the connection is lost"), SystemExit(3)])
def test_a_fault_in_close_is_a_warning(error: BaseException, capsys: pytest.CaptureFixture[str]) -> None:
    warn_once.cache_clear()
    for _ in range(2):
        env, adapter = adapted()

        def act() -> None:
            raise error

        env.act = act
        adapter.close()
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith(f"warning: environment Free-v0 raised {type(error).__name__} in close (test_boundary.py, line ")


def test_reset_is_called_as_gymnasium_calls_it() -> None:
    env, adapter = adapted()
    adapter.reset(seed=1, options={})
    assert env.options is None


def test_spaces_that_change() -> None:
    env, adapter = adapted()
    env.observation_space = Dict({"numbers": Box(-5.0, 5.0, (2,)), "kind": Discrete(3, start=1)})
    adapter.reset()
    env.observation_space = Discrete(5)
    with pytest.raises(EnvironmentFault, match=r"in reset: its observation space is now Discrete\(5\), it was Dict"):
        adapter.reset()
    env.observation_space, env.action_space = SPACE, Discrete(3)
    with pytest.raises(EnvironmentFault, match=r"in reset: its action space is now Discrete\(3\), it was Discrete\(2\)"):
        adapter.reset()


def test_instances_that_differ() -> None:
    sizes = iter(range(2, 9))
    register("Growing-v0", lambda: Free(Box(-1.0, 1.0, (next(sizes),))))
    with pytest.raises(UserError, match=r"env.id=Growing-v0: instances differ: stream 1 has observation space .*\(3,\)"):
        make_vector_env(EnvConfig(id="Growing-v0"), 2)
    del gym.registry["Growing-v0"]


@pytest.mark.parametrize("what", ["init", "metadata", "observation_space"])
def test_what_is_raised_while_it_is_made(what: str) -> None:
    def leave(self: Any, *rest: Any) -> Any:
        raise SystemExit("no licence")

    attribute = leave if what == "init" else property(leave)
    made = type("Leaving", (Free,), {"__init__" if what == "init" else what: attribute})
    register("LeavingWhileMade-v0", made)
    with pytest.raises(UserError, match=r"env.id=LeavingWhileMade-v0: .*") as caught:
        make_vector_env(EnvConfig(id="LeavingWhileMade-v0"), 2)
    assert caught.value.exit_code == 2
    del gym.registry["LeavingWhileMade-v0"]


@pytest.mark.parametrize("where", ["init", "step"])
def test_subprocesses_hand_on_what_happened(where: str) -> None:
    config = EnvConfig(id="sample_envs:Leaving-v0", kwargs={"where": where}, vectorization=Vectorization.subprocess)

    def use() -> None:
        stepper = Stepper(make_vector_env(config, 2))
        stepper.reset(np.ones(2, np.bool_), [0, 1], 0)
        stepper.step(np.zeros((2, 1), np.int32), 0)

    with pytest.raises(UserError, match="SystemExit") as caught:
        use()
    assert "sample_envs:Leaving-v0" in str(caught.value)
    assert "died" not in str(caught.value)


def test_a_module_that_exits_when_it_is_imported(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "leaving_module.py").write_text("raise SystemExit('no licence')\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(UserError, match=r"env.id=leaving_module:X-v0: SystemExit: no licence"):
        make_env(EnvConfig(id="leaving_module:X-v0"))
