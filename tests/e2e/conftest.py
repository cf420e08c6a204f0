"""Runs that several tests look at."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e import trials

FIRST = ("run.name=first", "run.hypothesis=it runs")


@pytest.fixture(scope="session", autouse=True)
def _environments() -> Iterator[None]:
    """Runs in this process find the environments of the tests."""
    with pytest.MonkeyPatch.context() as patch:
        for directory in trials.ENV_PATH:
            patch.syspath_prepend(directory)
        yield


@pytest.fixture(scope="session")
def cartpole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, subprocess.CompletedProcess[str]]:
    """A run on CartPole-v1 from the command line, and its process."""
    root = tmp_path_factory.mktemp("cartpole")
    arguments = [*trials.TINY, *FIRST, f"run.root={root / 'runs'}"]
    done = trials.run_command("train", *arguments, cwd=root)
    assert done.returncode == 0, done.stderr
    return trials.only_run(root / "runs"), done


@pytest.fixture(scope="session")
def poles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same run, made in this process."""
    root = tmp_path_factory.mktemp("poles")
    assert trials.run_here(root, *FIRST) == 0
    return trials.only_run(root)


@pytest.fixture(scope="session")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on the trial environment that nothing interrupted. Not to be written to: see `copy`."""
    root = tmp_path_factory.mktemp("reference")
    assert trials.run_here(root, trials.TRIAL) == 0
    return trials.only_run(root)


@pytest.fixture(scope="session")
def another(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same as `reference` from another seed. Not to be written to."""
    root = tmp_path_factory.mktemp("another")
    assert trials.run_here(root, trials.TRIAL, "train.seed=1") == 0
    return trials.only_run(root)


@pytest.fixture
def copy(reference: Path, tmp_path: Path) -> Path:
    """A run like `reference` that a test may change."""
    return Path(shutil.copytree(reference, tmp_path / reference.name))
