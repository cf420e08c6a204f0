"""Loading: layers, what the command line accepts, what it answers to mistakes."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dreamerjax.config.cli import Result, main
from dreamerjax.config.composition import config_directory, load_config, load_structured, run_name
from dreamerjax.config.schema import Config, FreeBits, Vectorization
from dreamerjax.core.errors import UserError

REFERENCE_SIZES = {  # deter, hidden, classes, units: the table of the public implementation
    "1m": (512, 64, 4, 64),
    "12m": (2048, 256, 16, 256),
    "25m": (3072, 384, 24, 384),
    "50m": (4096, 512, 32, 512),
    "100m": (6144, 768, 48, 768),
    "200m": (8192, 1024, 64, 1024),
    "400m": (12288, 1536, 96, 1536),
}


@dataclass
class Options:
    run: str
    episodes: int = 100
    greedy: bool = True


def test_layers_apply_in_order() -> None:
    config = load_config(["experiment=cartpole", "size=tiny256", "train.seed=3", "optim.actor_lr=2e-5"])
    assert (config.model.deter, config.train.seed, config.optim.actor_lr) == (256, 3, 2e-5)
    assert (config.train.stop_at_return, config.run.name) == (475.0, "cartpole")
    assert load_config(["+experiment=cartpole", "train.stop_at_return=null"]).train.stop_at_return is None


@pytest.mark.parametrize("name", REFERENCE_SIZES)
def test_sizes_are_those_of_the_reference(name: str) -> None:
    model = load_config([f"size=size{name}"]).model
    assert (model.deter, model.hidden, model.classes, model.units) == REFERENCE_SIZES[name]
    layers = (model.encoder_layers, model.decoder_layers, model.reward_layers, model.continue_layers)
    assert (model.groups, model.blocks, *layers) == (32, 8, 3, 3, 1, 1)
    assert (model.prior_layers, model.posterior_layers, model.actor_layers, model.critic_layers) == (2, 1, 3, 3)


@pytest.mark.parametrize("group", ["env", "size", "experiment"])
def test_every_overlay_composes(group: str) -> None:
    options = sorted(path.stem for path in (config_directory() / group).glob("*.yaml"))
    assert options
    for option in options:
        assert isinstance(load_config([f"{group}={option}"]), Config)


def test_custom_environment_and_open_mapping() -> None:
    config = load_config(["env.id=my.module:Thing-v0", "env.kwargs.size=3", "env.kwargs.mode=fast"])
    assert config.env.id == "my.module:Thing-v0"
    assert config.env.kwargs == {"size": 3, "mode": "fast"}
    assert load_config(["env.kwargs={size: 3}"]).env.kwargs == {"size": 3}


@pytest.mark.parametrize("text", ["1e5", "100000", "100000.0", "1E+5", "10e4", ".1e6"])
def test_whole_floats_are_integers(text: str) -> None:
    steps = load_config([f"train.steps={text}"]).train.steps
    assert steps == 100_000
    assert type(steps) is int


@settings(max_examples=30, deadline=None)
@given(st.text(st.characters(min_codepoint=32, max_codepoint=383, exclude_characters="$"), max_size=30))
def test_text_arrives_as_typed(text: str) -> None:
    if text not in ("null", "???") and text[:1] not in ("'", '"'):
        assert load_config([f"run.hypothesis={text}"]).run.hypothesis == text


def test_enums_and_booleans() -> None:
    config = load_config(["loss.free_bits=straight_through", "env.vectorization=subprocess", "jit=false"])
    assert config.loss.free_bits is FreeBits.straight_through
    assert config.env.vectorization is Vectorization.subprocess
    assert config.jit is False


MISTAKES = {
    "train.sed=1": "unknown key train.sed; did you mean train.seed?",
    "actor_lr=1": "unknown key actor_lr; did you mean optim.actor_lr?",
    "siz=tiny": "unknown key siz; did you mean size?",
    "+train.sed=1": "unknown key train.sed; did you mean train.seed?",
    "++zzzzzz=1": "unknown key zzzzzz; top-level keys: behavior, compilation_cache, env,",
    "train.seed.x=3": "unknown key train.seed.x; did you mean train.seed?",
    "env=cartpol_state": "env=cartpol_state: no such option; did you mean cartpole_state? valid: acrobot, ",
    "experiment=zzz": "experiment=zzz: no such option; valid: cartpole",
    "train.seed=abc": "train.seed must be a whole number, not abc",
    "optim.warmup=1.5": "optim.warmup must be a whole number, not 1.5",
    "train.batch_size=true": "train.batch_size must be a whole number, not true",
    "optim.actor_lr=fast": "optim.actor_lr must be a number, not fast",
    "jit=maybe": "jit must be true or false, not maybe",
    "train.seed=null": "train.seed must be a whole number, not null",
    "train.stop_at_return=x": "train.stop_at_return must be a number or null, not x",
    "loss.free_bits=none": "loss.free_bits must be one of clip, straight_through, not none",
    "env.kwargs=3": "env.kwargs must be a mapping such as {name: value}, not 3",
    "train=3": "train is a section, not a value: set its keys, such as train.seed",
    "--train.seed=3": "--train.seed=3: write train.seed=value, without dashes",
    "cartpole": "cannot read the argument cartpole: write key=value",
    "train.seed=[1": "cannot read the argument train.seed=[1: quote its value",
    "train.seed=1,2": "train.seed=1,2: several values are a sweep and need -m",
    "~train.seed": "train.seed cannot be removed; set it with train.seed=...",
    "~train": "train cannot be removed; set it with train=...",
    "=5": "cannot read the argument '=5': write key=value",
    "++": "cannot read the argument '++': write key=value",
    "replay.online=25": "replay.online must be true or false, not 25",
    "run.primary_metric=nope": "run.primary_metric is no known metric: nope; valid (see docs/metrics.md): eval/greedy/..., ",
    "model.bins.count=1000001": "model.bins.count must be at least 3 and at most 10001, not 1000001",
    "run.name=${x}": "run.name: Interpolation key 'x' not found",
    "behavior.entropy=1e39": "behavior.entropy must be a number that float32 can hold, not 1e+39",
    "env.kwargs={a:nan}": "env.kwargs.a must be finite, not nan",
    "train.batch_size=0": "train.batch_size must be at least 1, not 0",
    "behavior.gamma=1.5": "behavior.gamma must be above 0 and at most 1, not 1.5",
    "model.deter=100": "model.deter must be divisible by model.blocks (8): 96 or 104, not 100",
}


@pytest.mark.parametrize("argument", MISTAKES)
def test_a_mistake_is_one_line_and_exit_code_2(argument: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(lambda config: pytest.fail("ran"), [argument]) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith(f"error: {MISTAKES[argument]}")
    assert captured.err.count("\n") == 1
    assert not captured.out


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("--nope", "--nope: there is no such flag; -m runs a sweep, --help tells the keys"),
        ("--multirun=1", "argument --multirun/-m: ignored explicit argument '1'"),
    ],
)
def test_an_unknown_flag_is_one_line(argument: str, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(lambda config: pytest.fail("ran"), ["train.seed=1", argument]) == 2
    assert capsys.readouterr() == ("", f"error: {message}\n")


@pytest.mark.parametrize("flags", [["-m"], ["--cfg", "job"]])
def test_mistakes_beside_flags(flags: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(lambda config: pytest.fail("ran"), [*flags, "train.sed=1"]) == 2
    assert capsys.readouterr().err == "error: unknown key train.sed; did you mean train.seed?\n"


def test_exit_codes(capsys: pytest.CaptureFixture[str]) -> None:
    def fail(config: Config) -> int:
        raise UserError("the disk\nis full", exit_code=1)

    def interrupt(config: Config) -> int:
        raise KeyboardInterrupt

    assert main(lambda config: None, []) == 0
    assert main(lambda config: 7, []) == 7
    assert main(interrupt, []) == 130
    assert main(fail, []) == 1
    assert capsys.readouterr().err == "error: the disk is full\n"


def test_multirun_runs_every_combination(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    seen: list[tuple[int, int]] = []

    def task(config: Config) -> int:
        seen.append((config.train.seed, config.train.steps))
        return 3 if config.train.seed == 1 else 0

    assert main(task, ["train.seed=0,1", "-m", "train.steps=1e3,2e3"]) == 3
    assert seen == [(0, 1000), (0, 2000), (1, 1000), (1, 2000)]
    assert [path.name for path in tmp_path.iterdir()] == ["multirun"]


def test_a_sweep_ends_with_one_table_and_names_its_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    names: list[str] = []

    def task(config: Config) -> Result:
        names.append(config.run.name)
        if config.env.id == "Acrobot-v1" and config.train.seed:
            raise UserError("the disk is full", exit_code=1)
        return Result(0, {"last return": f"{config.train.seed}.5"})

    sweep = ["-m", "train.seed=0,1", "env=cartpole_state,acrobot", "train.steps=1e3", "size=tiny"]
    assert main(task, sweep) == 1
    table = [[cell.strip() for cell in line.split("│")[1:-1]] for line in capsys.readouterr().out.splitlines() if "│" in line]
    assert table == [
        ["0", "cartpole_state", "0.5", ""],
        ["0", "acrobot", "0.5", ""],
        ["1", "cartpole_state", "1.5", ""],
        ["1", "acrobot", "", "error: the disk is full"],
    ]
    assert names == ["CartPole-v1_seed-0", "Acrobot-v1_seed-0", "CartPole-v1_seed-1", "Acrobot-v1_seed-1"]
    names.clear()
    assert main(task, ["-m", "optim.actor_lr=1e-5,3e-5", "run.name=mine", "env.image_size=[16,32]"]) == 0
    assert names == ["mine_actor_lr-1e-05", "mine_actor_lr-3e-05"]


def test_a_signal_ends_a_sweep(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    seen: list[int] = []

    def task(config: Config) -> int:
        seen.append(config.train.seed)
        return 130

    assert main(task, ["-m", "train.seed=0,1,2"]) == 130
    assert seen == [0]
    assert "ended" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("settings", "name"),
    [
        ([], "CartPole-v1"),
        (["env.id=dmc/walker_walk"], "walker_walk"),
        (["env.id=parking:Parking-v0"], "Parking-v0"),
        (["run.name=mine"], "mine"),
    ],
)
def test_a_run_is_called_as_its_environment(settings: list[str], name: str) -> None:
    assert run_name(load_config(settings)) == name


def test_multirun_reports_an_impossible_value(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(lambda config: 0, ["-m", "train.seed=1,-2"]) == 2
    assert "error: train.seed must be at least 0 and at most 2147483647, not -2\n" in capsys.readouterr().err


def test_printing_flags(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(lambda config: pytest.fail("ran"), ["--cfg", "job", "train.seed=9"]) == 0
    assert "\n  seed: 9\n" in capsys.readouterr().out
    assert main(lambda config: pytest.fail("ran"), ["--help"]) == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "env=cartpole_state acrobot, atari_pong, cartpole_both" in text
    assert "actor_lr" in text
    assert not list(tmp_path.iterdir())


def test_options_of_other_entry_points(capsys: pytest.CaptureFixture[str]) -> None:
    assert load_structured(Options, ["run=runs/a-b_1", "episodes=1e1"]) == Options("runs/a-b_1", 10)
    with pytest.raises(UserError, match=r"^run is required: RUN or run=RUN, its directory, its name or latest$"):
        load_structured(Options)
    with pytest.raises(UserError, match=r"^unknown key epsodes; did you mean episodes\?$"):
        load_structured(Options, ["run=a", "epsodes=3"])
    with pytest.raises(UserError, match="unknown key env; top-level keys: episodes, greedy, run"):
        load_structured(Options, ["env=acrobot"])
    assert main(lambda options: options.episodes, ["run=a", "episodes=5"], schema=Options) == 5
    assert main(lambda options: pytest.fail("ran"), ["--cfg", "job", "run=a"], schema=Options) == 0
    assert capsys.readouterr().out == "run: a\nepisodes: 100\ngreedy: true\n"


def test_normal_runs_leave_no_files_and_stay_in_place(tmp_path: Path) -> None:
    root = Path(__file__).parents[2]
    program = (
        f"import os, sys; sys.path.insert(0, {str(root)!r}); from dreamerjax.config.cli import main;"
        "sys.exit(main(lambda config: print(os.getcwd(), config.train.seed)))"
    )
    done = subprocess.run([sys.executable, "-c", program, "train.seed=4"], cwd=tmp_path, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"{tmp_path} 4\n"
    assert not list(tmp_path.iterdir())
