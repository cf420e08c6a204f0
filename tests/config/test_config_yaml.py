"""The configuration files of run directories: exact round trips, and one line for a bad file."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dreamerjax.config.composition import config_from_yaml, config_to_yaml
from dreamerjax.config.schema import BinSpacing, Config
from dreamerjax.core.errors import UserError


@settings(max_examples=20, deadline=None)
@given(
    learning_rate=st.floats(0, 1),
    seed=st.integers(0, 2**31 - 1),
    hypothesis=st.text(st.characters(max_codepoint=383, exclude_categories=["Cc", "Cs"], exclude_characters="$"), max_size=20),
    stop=st.none() | st.floats(-1e6, 1e6),
)
def test_yaml_round_trip_is_exact(learning_rate: float, seed: int, hypothesis: str, stop: float | None) -> None:
    config = Config()
    config.optim.actor_lr, config.train.seed, config.train.stop_at_return = learning_rate, seed, stop
    config.run.hypothesis, config.env.kwargs = hypothesis, {"sizes": [1, 2], "name": None}
    config.model.bins.spacing = BinSpacing.symlog
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "config.yaml"
        path.write_text(config_to_yaml(config), encoding="utf-8")
        assert config_from_yaml(path) == config


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("train: {sed: 1}", "unknown key train.sed; did you mean train.seed?"),
        ("trian: {seed: 1}", "unknown key trian"),
        ("train: {seed: x}", "train.seed must be a whole number"),
        ("train: 3", "train is a section, not a value"),
        ("loss: {free_bits: none}", "loss.free_bits must be one of clip, straight_through"),
        ("behavior: {gamma: 2}", "behavior.gamma must be above 0 and at most 1, not 2"),
        ("[1, 2]", "not a mapping of configuration keys"),
        ("3", "Invalid loaded object type: int"),
        ("a: [", "is not valid YAML"),
        ("a: " + "[" * 3000, "is not valid YAML: it is nested too deeply"),
        ("a: caf\udce9", "is not valid YAML: 'utf-8' codec can't decode byte 0xe9"),
    ],
)
def test_a_bad_file_is_named_with_its_key(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(text, encoding="utf-8", errors="surrogateescape")
    with pytest.raises(UserError) as caught:
        config_from_yaml(path)
    assert str(path) in str(caught.value)
    assert message in str(caught.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"cannot read .*nothing\.yaml: No such file"):
        config_from_yaml(tmp_path / "nothing.yaml")


def test_a_missing_key_has_its_default(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text("train: {seed: 5}")
    expected = Config()
    expected.train.seed = 5
    assert config_from_yaml(path) == expected
