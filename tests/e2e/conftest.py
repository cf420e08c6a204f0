"""Runs that several tests look at, and a process that is left as it was found."""

from __future__ import annotations

import functools
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import pytest

from dreamerjax.agent import inference, learner, policy
from tests.e2e import trials

CACHE_SETTINGS = ("jax_persistent_cache_min_entry_size_bytes", "jax_persistent_cache_min_compile_time_secs")


@pytest.fixture(scope="session", autouse=True)
def _environments_and_cache() -> Iterator[None]:
    """Runs in this process find the environments of the tests, and leave JAX's cache as it was set."""
    saved = {name: jax.config.values[name] for name in CACHE_SETTINGS}
    with pytest.MonkeyPatch.context() as patch:
        for directory in trials.ENV_PATH:
            patch.syspath_prepend(directory)
        yield
    for name, value in saved.items():
        jax.config.update(name, value)


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


SHARED = {
    (learner, "compiled_updates"): _same(learner.compiled_updates),
    (policy, "compiled_act"): _same(policy.compiled_act),
    (inference, "compiled_act"): _same(policy.compiled_act),
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


@pytest.fixture(scope="session")
def cartpole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, subprocess.CompletedProcess[str]]:
    """A run on CartPole-v1 from the command line, and its process."""
    root = tmp_path_factory.mktemp("cartpole")
    arguments = [*trials.TINY, f"run.root={root / 'runs'}", "run.name=first", "run.hypothesis=it runs"]
    done = trials.run_command("train", *arguments, cwd=root)
    assert done.returncode == 0, done.stderr
    return trials.only_run(root / "runs"), done


@pytest.fixture(scope="session")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on the trial environment that nothing interrupted. Not to be written to: see `copy`."""
    root = tmp_path_factory.mktemp("reference")
    assert trials.run_here(root, trials.TRIAL) == 0
    return trials.only_run(root)


@pytest.fixture
def copy(reference: Path, tmp_path: Path) -> Path:
    """A run like `reference` that a test may change."""
    return Path(shutil.copytree(reference, tmp_path / reference.name))
