"""The whole suite runs on two virtual CPU devices with JAX's checks on; pyproject.toml makes warnings errors."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

os.environ.setdefault("JAX_PLATFORMS", "cpu")
# Nearly all the time of the suite is compilation, and what it compiles runs for moments: without the compiler's optimisations
# it takes half as long, with its older emitters and in one piece a quarter of that. Child processes inherit it.
os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "true")
os.environ.setdefault("XLA_FLAGS", "--xla_cpu_use_fusion_emitters=false --xla_cpu_parallel_codegen_split_count=1")
os.environ.setdefault("PJRT_NPROC", "4")  # twice the devices, else long unblocked loops of collectives can deadlock

# Of this process, of the other cores' and of all children.
os.environ["JAX_COMPILATION_CACHE_DIR"] = str(
    Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "dreamerjax" / "test-programs"
)

import jax
import pytest

from dreamerjax.agent import inference, learner, policy, population_learner
from dreamerjax.agent.state import TrainState, init_train_state
from dreamerjax.networks.build import Networks
from dreamerjax.training.world import World

jax.config.update("jax_num_cpu_devices", 2)
jax.config.update("jax_debug_key_reuse", True)
jax.config.update("jax_numpy_rank_promotion", "raise")
# As dreamerjax.training.runtime sets them in a process that trains: every program is kept.
jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)


def _same(compiled: Callable[..., Any]) -> Callable[..., Any]:
    """The function, which returns the same program where its arguments say the same: modules are not hashable."""
    programs: dict[str, Any] = {}

    @functools.wraps(compiled)
    def program(*arguments: Any) -> Any:
        written = repr(arguments)
        if written not in programs:
            programs[written] = compiled(*arguments)
        return programs[written]

    return program


@_same
def _compiled_initial_state(networks: Networks) -> Callable[[jax.Array], TrainState]:
    return jax.jit(functools.partial(init_train_state, networks))


def _initial_state(world: World) -> TrainState:
    return _compiled_initial_state(world.networks)(jax.random.key(world.config.train.seed))


SHARED = {
    (learner, "compiled_updates"): _same(learner.compiled_updates),
    (population_learner, "compiled_population_updates"): _same(population_learner.compiled_population_updates),
    (policy, "compiled_act"): _same(policy.compiled_act),
    (inference, "compiled_act"): _same(policy.compiled_act),
    (World, "initial_state"): _initial_state,
    (jax, "clear_caches"): lambda: None,  # with which a run ends
}
OWN = {(module, name): getattr(module, name) for module, name in SHARED}


@pytest.fixture(scope="session", autouse=True)
def _traced_once() -> Iterator[None]:
    """Runs in this process share their programs: tracing an update takes longer than running all those of a tiny run."""
    with pytest.MonkeyPatch.context() as patch:
        for (module, name), function in SHARED.items():
            patch.setattr(module, name, function)
        yield


@pytest.fixture
def own_programs(monkeypatch: pytest.MonkeyPatch) -> None:
    """As outside of these tests: each run traces its own programs, and drops them at its end."""
    for (module, name), function in OWN.items():
        monkeypatch.setattr(module, name, function)
