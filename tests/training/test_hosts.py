"""Whether this process is one of several, and what it is told when that is not clear."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from dreamerjax.config.composition import load_config
from dreamerjax.core.errors import UserError
from dreamerjax.core.rendezvous import Place
from dreamerjax.core.stopping import Stop
from dreamerjax.training import hosts
from dreamerjax.training.hosts import ALONE, join

SLURM = {
    "SLURM_JOB_ID": "7",
    "SLURM_STEP_NODELIST": "node[3-4]",
    "SLURM_NTASKS": "2",
    "SLURM_PROCID": "1",
    "SLURM_LOCALID": "0",
}
PLACE = "parallel.coordinator=127.0.0.1:5000 parallel.processes=2 parallel.process=1"


@pytest.fixture(autouse=True)
def _no_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in SLURM:
        monkeypatch.delenv(name, raising=False)


def met(monkeypatch: pytest.MonkeyPatch, *words: str) -> tuple[Place, Mapping[str, Any]]:
    """As what this process meets the others, which do not come."""
    found: list[tuple[Place, Mapping[str, Any]]] = []

    def meet(place: Place, wishes: Mapping[str, Any]) -> None:
        found.append((place, wishes))
        raise UserError("nobody came")

    with monkeypatch.context() as patch:
        patch.setattr(hosts, "meet", meet)
        with pytest.raises(UserError, match="nobody came"):
            join(load_config(list(words)), Stop())
    return found[0]


@pytest.mark.parametrize("words", ["", "parallel.processes=1", "parallel.processes=1 parallel.process=0"])
def test_alone(words: str) -> None:
    config = load_config(words.split())
    group, same = join(config, Stop())
    assert group is ALONE
    assert same is config
    assert group.gather(3) == [3]
    assert group.lead(lambda: 4) == 4


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("parallel.processes=2", "parallel.processes=2 needs parallel.coordinator=HOST:PORT, where process 0 listens"),
        ("parallel.processes=2 parallel.process=0", "parallel.processes=2 needs parallel.coordinator=HOST:PORT"),
        ("parallel.coordinator=a:1", "parallel.coordinator=a:1 needs parallel.processes: how many there are"),
        (f"{PLACE} parallel.process=2", r"parallel.process must be 0 to 1 \(parallel.processes=2\), not 2"),
        (f"{PLACE} parallel.coordinator=here", "parallel.coordinator must be HOST:PORT, such as 10.0.0.1:5000, not 'here'"),
        (f"{PLACE} parallel.coordinator=here:70000", "parallel.coordinator must be HOST:PORT"),
        (f"{PLACE} train.batch_size=7 behavior.starts=0", "train.batch_size=7 does not divide over parallel.processes=2"),
        (f"{PLACE} jit=false", "jit=false runs in one process, not in parallel.processes=2"),
    ],
)
def test_a_place_that_cannot_be_is_refused_at_once(words: str, message: str) -> None:
    given = {word.partition("=")[0]: word for word in words.split()}  # the last one counts
    with pytest.raises(UserError, match=f"^{message}"):
        join(load_config(list(given.values())), Stop())


def test_slurm_tells_the_place(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in SLURM.items():
        monkeypatch.setenv(name, value)
    place, _ = met(monkeypatch)
    assert (place.host, place.processes, place.process) == ("node3", 2, 1)
    with pytest.raises(UserError, match=r"parallel\.processes=3, but Slurm has started 2"):
        join(load_config(["parallel.processes=3"]), Stop())
    group, _ = join(load_config(["parallel.processes=1"]), Stop())  # tasks that have nothing to do with each other
    assert group is ALONE


def test_other_settings_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the processes compare are keys as the configuration has them, without their own places."""
    _, wishes = met(monkeypatch, *PLACE.split(), "train.seed=3")
    assert wishes["train.seed"] == "3"
    assert wishes["parallel.processes"] == "2"
    assert {"the version of jax", "the version of dreamerjax"} < wishes.keys()
    assert not {"parallel.process", "parallel.coordinator"} & wishes.keys()
