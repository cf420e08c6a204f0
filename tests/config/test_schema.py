"""The schema as the one document: every key describes itself, and the walk, --help and the reference agree with it."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass, field, is_dataclass
from enum import Enum
from pathlib import Path
from typing import Any

import pytest

from dreamerjax import check_env
from dreamerjax.__main__ import COMMANDS
from dreamerjax.config.cli import main
from dreamerjax.config.composition import load_config
from dreamerjax.config.flat import flatten, key_types, walk
from dreamerjax.config.keys import key, written
from dreamerjax.config.reference import reference
from dreamerjax.config.schema import Config

ROOT = Path(__file__).parents[2]


class Color(Enum):
    """Which colour."""

    red = 1


@dataclass
class Inner:
    """What is inside."""

    rate: float = key(0.5, "A share", above=0, below=1)
    color: Color = key(Color.red)


@dataclass
class Outer:
    needed: str
    inner: Inner = field(default_factory=Inner)
    sizes: list[int] = key([1, 2], "Sizes")
    extra: dict[str, Any] = key({}, "Anything")
    limit: int | None = key(None, "A limit", "steps", least=2)


def test_the_walk_of_a_type_an_instance_and_a_mapping() -> None:
    wanted = ["needed", "inner", "inner.rate", "inner.color", "sizes", "extra", "limit"]
    assert [entry.key for entry in walk(Outer)] == wanted == list(key_types(Outer))
    assert [entry.key for entry in walk(Outer("x"))] == wanted
    assert flatten(Outer("x", extra={"a": {"b": 1}, "c": {}})) == {
        "needed": "x",
        "inner.rate": 0.5,
        "inner.color": "red",
        "sizes": [1, 2],
        "extra.a.b": 1,
        "limit": None,
    }
    assert flatten({"a": {"b": 1}, "inner": Inner()}) == {"a.b": 1, "inner.rate": 0.5, "inner.color": "red"}


def test_what_keys_say() -> None:
    said = {entry.key: (entry.description, entry.valid) for entry in walk(Outer)}
    assert said == {
        "needed": ("", "text"),
        "inner": ("What is inside", "Inner"),
        "inner.rate": ("A share", "above 0 and below 1"),
        "inner.color": ("Which colour", "one of red"),
        "sizes": ("Sizes", "a list of whole numbers"),
        "extra": ("Anything", "a mapping such as {name: value}"),
        "limit": ("A limit", "at least 2 or null"),
    }


def test_defaults_are_not_shared() -> None:
    one, other = Outer("x"), Outer("x")
    one.sizes.append(3)
    one.extra["a"] = 1
    assert (other.sizes, other.extra) == ([1, 2], {})


def test_every_key_describes_itself_in_one_sentence() -> None:
    for entry in walk(Config):
        assert entry.about is not None or is_dataclass(entry.hint), entry.key
        assert entry.description, entry.key
        assert not entry.description.endswith("."), entry.key


def test_values_survive_being_written() -> None:
    said = [f"{entry.key}={written(entry.value)}" for entry in walk(Config()) if entry.about and entry.value is not None]
    assert len(said) > 100
    assert flatten(load_config(said)) == flatten(load_config())
    assert written({"a": [True, None]}) == "{a:[true,null]}"


@pytest.mark.parametrize(("width", "lines"), [(100, 40), (80, 48)])
def test_help_fits_a_screen(
    width: int, lines: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    assert main(lambda config: pytest.fail("ran"), ["--help", "env=pendulum", "train.seed=7", "mode=dreamer"]) == 0
    text = capsys.readouterr().out
    shown = text.splitlines()
    assert len(shown) <= lines
    assert all(len(line) <= width for line in shown[1:])
    assert shown[0].startswith("usage: ")
    for wanted in ("env.id=Pendulum-v1 ", "train.seed=7 ", "mode=dreamer ", "env=pendulum ", "size=small ", "+experiment= "):
        assert f"\n  {wanted}" in text
    assert "behavior.lambda" not in text


def test_help_of_every_key(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    assert main(lambda config: pytest.fail("ran"), ["--help-all", "env.kwargs.size=3", "behavior.lambda=0.5"]) == 0
    text = capsys.readouterr().out
    assert all(f"\n  {entry.key.rstrip('_')}=" in text for entry in walk(Config) if entry.about)
    assert "\n  behavior.lambda=0.5 " in text
    assert "\n  env.kwargs={size:3} " in text
    assert "\nmodel.bins: Bins of the two-hot" in text


def test_help_of_a_sweep_and_of_mistakes(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(lambda config: pytest.fail("ran"), ["-h", "-m", "train.seed=1,2"]) == 0
    assert "\n  train.seed=0 " in capsys.readouterr().out
    assert main(lambda config: pytest.fail("ran"), ["--help", "train.sed=1"]) == 2
    assert capsys.readouterr().err == "error: unknown key train.sed; did you mean train.seed?\n"


def test_help_says_what_the_command_itself_does(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert main(check_env.run, ["--help"]) == 0
    text = capsys.readouterr().out
    assert "\n    dreamerjax check-env env.id=CartPole-v1\n" in text
    assert text.index("Check an environment") < text.index("exits with 1") < text.index("The most used of")
    assert all(len(line) <= 80 for line in text.splitlines()[1:])


def test_help_of_other_commands(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(lambda config: pytest.fail("ran"), ["--help", "inner.rate=0.25"], schema=Outer) == 0
    text = capsys.readouterr().out
    assert "\n  needed=???\n" in text
    assert "\n  inner.rate=0.25            A share (above 0 and below 1)\n" in text
    assert main(lambda config: pytest.fail("ran"), ["needed=x", "inner.rate=2"], schema=Outer) == 2
    assert capsys.readouterr().err == "error: inner.rate must be above 0 and below 1, not 2\n"


def test_the_reference_tells_every_key() -> None:
    page = reference()
    assert all(f"\n| `{entry.key}` | `" in page for entry in walk(Config) if entry.about and entry.value != "")
    assert page == (ROOT / "docs" / "configuration.md").read_text()


def test_the_list_of_commands_starts_nothing(tmp_path: Path) -> None:
    program = (
        "import runpy, sys, json\ntry: runpy.run_module('dreamerjax', run_name='__main__', alter_sys=True)\n"
        "except SystemExit as end: print(json.dumps([end.code, [name for name in ('jax', 'hydra') if name in sys.modules]]))"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
    *listed, end = done.stdout.splitlines()
    assert json.loads(end) == [0, []]
    names = [line.split()[:2] for line in listed[: len(COMMANDS)]]
    assert names == [["dreamerjax", name.replace("_", "-")] for name in COMMANDS]
    assert all(len(line.split()) > 4 for line in listed[: len(COMMANDS)])


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["train", "bogus=1"], "error: unknown key bogus"),
        (["check-env", "--nope"], "--nope"),
        (["trian"], "error: trian: there"),
    ],
)
def test_a_command_runs_its_module(arguments: list[str], said: str, tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-m", "dreamerjax", *arguments], cwd=tmp_path, capture_output=True, text=True)
    assert (done.returncode, said in done.stderr) == (2, True), done.stderr
    assert "Traceback" not in done.stderr


def test_every_command_is_listed() -> None:
    package = ROOT / "dreamerjax"
    modules = [*package.glob("*.py"), *package.glob("*/__main__.py")]
    runnable = [path for path in modules if 'if __name__ == "__main__"' in path.read_text()]
    names = {path.parent.name if path.name == "__main__.py" else path.stem for path in runnable}
    assert names - {"dreamerjax"} == set(COMMANDS)


def test_a_dash_before_another_name(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(lambda config: pytest.fail("ran"), ["--learning-rate=1"]) == 2
    assert "did you mean optim.model_lr or" in capsys.readouterr().err
    assert main(lambda config: pytest.fail("ran"), ["--size=tiny"]) == 2
    assert capsys.readouterr().err == "error: --size=tiny: write size=value, without dashes\n"
