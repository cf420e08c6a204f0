from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def _sample_envs(monkeypatch: pytest.MonkeyPatch) -> None:
    """`sample_envs:NAME` as an environment id."""
    monkeypatch.syspath_prepend(Path(__file__).parent)
