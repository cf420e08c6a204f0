"""Bad input, by hypothesis from the schema, by mutation of good files and by hand: one line and a non-zero code each.

Values are wrong by their type or range, so each must be refused. A mutated file may happen to be valid still: then it may be
accepted, and nothing else may happen.
"""

from __future__ import annotations

import random
import shutil
import tempfile
from collections.abc import Callable, Iterator
from enum import Enum
from functools import partial
from pathlib import Path
from types import NoneType
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

import dreamerjax
from dreamerjax import api, train
from dreamerjax.config.cli import main
from dreamerjax.config.flat import Entry, alternatives, walk
from dreamerjax.config.schema import Config
from dreamerjax.core.errors import UserError
from dreamerjax.evaluate import EvaluateConfig
from dreamerjax.evaluate import run as evaluate
from dreamerjax.experiment.__main__ import main as experiment
from dreamerjax.report.__main__ import ReportConfig
from dreamerjax.report.__main__ import run as report
from experiments.reliability.damage import finished
from experiments.reliability.trial import complaint, in_process

HERE = Path(__file__).resolve().parent
KEYS = {entry.key: entry for entry in walk(Config()) if not entry.is_section and entry.about}
WORDS = [
    "nope",
    "1e999",
    "nan",
    "-inf",
    "[1",
    "{a:1}",
    "[1,2]",
    "0x10",
    "1_0",
    "null",
    "true",
    "1,5",
    "'",
    "${x}",
    "~",
    "=",
    "é",
]
CHANGES = ["line dropped", "line doubled", "value changed", "bytes", "cut", "indented", "nested", "latin-1", "empty"]
BY_HAND = """
=5
train
train.steps
train.steps=
++
~train
~env.id
+nope=1
nope=1
train.nope=1
env=nope
+experiment=nope
size=huge
train.steps=1e20
train.steps=-1
run.primary_metric=nope
train.batch_length=1000000
model.bins.count=1000001
behavior.horizon=100000000
optim.model_lr=1e400
behavior.entropy=1e39
resume=nope
resume=..
resume=/dev/null
from_=nope mode=dreamer
mode=dreamer
env.id=
env.id=Nope-v0
env.id=nope:Env-v0
env.id=os:Env-v0
env.kwargs={a:nan}
env.kwargs=1
env.kwargs={nope:1}
env.num_envs=0
env.num_envs=1e9
train.seed=-1
train.seed=99999999999999999999
--nope
--multirun=1
parallel.devices=4096
train.batch_size=7 parallel.devices=2
run.root=/proc/nope
run.root=/dev/null
env.image_size=1
env.action_repeat=0
replay.capacity=1
model.deter=7
run.checkpoints_to_keep=0
""".strip().splitlines()


CONDUCT = train.conduct
SHORT = ["size=tiny", "train.steps=300", "train.random_steps=270", "train.eval_every=0"]  # as far as the first update


class Began(UserError):
    """A run would have begun."""


def cases(folder: Path, first: int) -> Iterator[tuple[str, str]]:
    """In turn: a value outside of its key's type or range, as a word and from Python; a word by hand; a mutated file."""
    run = finished(folder, "good", 0)
    with pytest.MonkeyPatch.context() as patch:  # a valid input ends there
        patch.setattr(train, "conduct", begin)
        patch.setattr(api, "conduct", begin)
        yield from played(folder, first, run)


def played(folder: Path, first: int, run: Path) -> Iterator[tuple[str, str]]:
    """`cases`, where no training begins."""
    wrong = iter(wrong_values(2_000))
    for number in range(10_000):
        kind = ("word", "word", "python", "config", "meta", "experiment", "evaluate", "hand")[number % 8]
        draw = random.Random(number)
        key, value = next(wrong)
        if number < first:
            continue
        if kind == "word":
            yield f"train {key}={value}", refused(partial(main, train.run), [f"{key}={value}"])
        elif kind == "python":
            yield f"learn({key}={value!r})", from_python(key, value)
        elif kind == "hand":
            words = BY_HAND[number // 8 % len(BY_HAND)].split()
            yield f"train {' '.join(words)}", refused(partial(main, train.run), words, really=True)
        elif kind == "evaluate":
            entries = [entry for entry in walk(EvaluateConfig) if entry.range is not None]
            entry = entries[draw.randrange(len(entries))]
            word = f"{entry.key}={draw.choice(['-1', 'x', 'nan', '1e30', '[]', '-1e30'])}"
            yield f"evaluate {word}", refused(partial(main, evaluate, schema=EvaluateConfig), [f"run={run}", word])
        else:
            yield mutated(kind, folder, run, draw)


def begin(*_: Any, **__: Any) -> Any:
    """In place of a training."""
    raise Began("a run would have begun")


def refused(command: Callable[[list[str]], Any], words: list[str], *, really: bool = False) -> str:
    """What a command does with words that are wrong; `really`: a training may begin, since it alone can tell."""
    if really:
        with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
            patch.setattr(train, "conduct", CONDUCT)
            given = {word.partition("=")[0] for word in words}
            few = [word for word in SHORT if word.partition("=")[0] not in given]
            root = [] if "run.root" in given else [f"run.root={folder}"]
            code, _, err = in_process(command, [*few, *root, *words])
    else:
        code, _, err = in_process(command, words)
    if "a run would have begun" in err:
        return "BROKEN: accepted"
    wrong = complaint(code, err)
    return f"BROKEN: {wrong}" if wrong else "refused in one line"


def from_python(key: str, value: Any) -> str:
    """The same from Python."""
    try:
        dreamerjax.learn("CartPole-v1", **{key: value})
    except Began:
        return "BROKEN: accepted"
    except UserError as error:
        return "refused in one line" if "\n" not in str(error) else f"BROKEN: {error}"
    except Exception as error:  # what the depths raised is the finding
        return f"BROKEN: {type(error).__name__}: {error}"
    return "BROKEN: accepted"


def mutated(kind: str, folder: Path, run: Path, draw: random.Random) -> tuple[str, str]:
    """A file of a run, or of an experiment, of which a few letters changed."""
    copy = folder / "mutated"
    shutil.rmtree(copy, ignore_errors=True)
    if kind == "experiment":
        original = draw.choice(sorted((HERE.parent).glob("*/experiment.yaml")))
        copy.mkdir()
        file = copy / "experiment.yaml"
        command, words = experiment, ["plan", str(file)]
    else:
        shutil.copytree(run, copy)
        original = run / {"config": "config.yaml", "meta": "meta.json"}[kind]
        file = copy / original.name
        resume, read = partial(main, train.run), partial(main, report, schema=ReportConfig)
        command, words = draw.choice([(resume, [f"resume={copy}"]), (read, [f"run={copy}"])])
    content, what = mutate(original.read_bytes(), draw)
    file.write_bytes(content)
    code, _, err = in_process(command, words)
    name = f"{original.name} of {original.parent.name if kind == 'experiment' else 'a run'}: {what}"
    if code == 0 or "a run would have begun" in err:
        return name, "still valid"
    wrong = complaint(code, err)
    return name, f"BROKEN: {wrong}" if wrong else "refused in one line"


def mutate(content: bytes, draw: random.Random) -> tuple[bytes, str]:
    """One change of a text, and its name."""
    lines = content.splitlines(keepends=True)
    at = draw.randrange(len(lines))
    what = draw.choice(CHANGES)
    if what == "line dropped":
        del lines[at]
    elif what == "line doubled":
        lines.insert(at, lines[at])
    elif what == "value changed":
        lines[at] = lines[at].split(b":")[0] + b": " + draw.choice(WORDS).encode() + b"\n"
    elif what == "indented":
        lines[at] = b"   " + lines[at]
    elif what == "nested":
        lines[at] = lines[at].rstrip() + b" " + b"[" * 3_000 + b"\n"
    elif what == "latin-1":
        lines[at] = lines[at].rstrip() + " é".encode("latin-1") + b"\n"
    changed = b"".join(lines)
    if what == "bytes":
        changed = bytes(draw.randrange(256) if draw.random() < 0.02 else byte for byte in changed)
    return {"cut": changed[: draw.randrange(len(changed))], "empty": b""}.get(what, changed), what


def wrong_values(count: int) -> list[tuple[str, Any]]:
    """Keys of the configuration, each with a value that its type or range excludes."""
    found: list[tuple[str, Any]] = []

    @settings(
        max_examples=count, derandomize=True, database=None, phases=[Phase.generate], suppress_health_check=list(HealthCheck)
    )
    @given(st.sampled_from(sorted(wrong_for(KEYS))).flatmap(lambda key: st.tuples(st.just(key), wrong_for(KEYS)[key])))
    def draw(pair: tuple[str, Any]) -> None:
        found.append(pair)

    draw()
    return found


def wrong_for(entries: dict[str, Entry]) -> dict[str, st.SearchStrategy[Any]]:
    """What no key of this kind takes; keys that take any text are left out."""
    return {key: strategy for key, entry in entries.items() if (strategy := _wrong(entry)) is not None}


def _wrong(entry: Entry) -> st.SearchStrategy[Any] | None:
    kinds = [kind for kind in alternatives(entry.hint) if kind is not NoneType]
    text = st.sampled_from(["nope", "1.2.3", "[1,2]", "{a:1}", "on-off"])
    if kinds in ([int], [float]) and entry.range is not None:
        low, high = entry.range.low, entry.range.high
        beyond = [st.just(float("nan")), st.just(float("inf")), text]
        if kinds == [int]:
            beyond.append(st.just(1.5))
        if low > -1e18:
            beyond.append(st.integers(max_value=int(low) - 1, min_value=-(10**25)))
        if high < 1e18:
            beyond.append(st.integers(min_value=int(high) + 1, max_value=10**25))
        return st.one_of(beyond)
    if kinds == [bool]:
        return st.one_of(text, st.integers(min_value=2, max_value=99), st.floats(min_value=0.1, max_value=0.9))
    if len(kinds) == 1 and isinstance(kinds[0], type) and issubclass(kinds[0], Enum):
        return st.one_of(text, st.integers(min_value=0, max_value=9))
    return None
