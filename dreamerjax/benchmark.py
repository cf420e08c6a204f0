"""Measure this machine: `python -m dreamerjax.benchmark [--presets tiny size1m size12m_images] [--json FILE]`.

Every preset runs the same work: batch 16 x 64, horizon 15, every state an imagination start, 255 bins; CartPole-v1 from its
4 numbers or, `_images`, from pictures of 64 x 64 x 3. Each runs in a process of its own, so that compile time and peak
memory are its own.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dreamerjax.agent.learner import updates
from dreamerjax.agent.policy import Policy
from dreamerjax.agent.state import Batch, TrainState, hyper_from_config, options_from_config
from dreamerjax.config.completion import complete
from dreamerjax.config.composition import load_config
from dreamerjax.config.schema import Config, EnvConfig
from dreamerjax.core.console import Parser
from dreamerjax.core.machine import machine, peak_memory_mb
from dreamerjax.data.collector import Collector
from dreamerjax.envs import make_env
from dreamerjax.envs.image_view import ImageView
from dreamerjax.training.flops import count_flops
from dreamerjax.training.runtime import prepare
from dreamerjax.training.world import World, build_replay, build_world, replay_batch

PRESETS = ("tiny", "size1m", "size12m", "size1m_images", "size12m_images")
LONGEST = 60.0  # seconds that updates are timed for, at most
WORK = ("train.batch_size=16", "train.batch_length=64", "behavior.horizon=15", "behavior.starts=0", "model.bins.count=255")


def median_seconds(function: Callable[[], Any], repeats: int) -> float:
    """Median wall time of `function`, which must return only when its work is done; of fewer repeats if it takes long."""
    times: list[float] = []
    while len(times) < repeats and sum(times) < LONGEST:
        started = time.perf_counter()
        function()
        times.append(time.perf_counter() - started)
    return float(np.median(times))


def matmul_peak(size: int = 2048) -> float:
    """Measured float32 FLOP/s of a square matrix product over all cores."""
    matrix = jnp.ones((size, size), jnp.float32)
    product = jax.jit(lambda left, right: left @ right)
    product(matrix, matrix).block_until_ready()
    times = [median_seconds(lambda: product(matrix, matrix).block_until_ready(), 1) for _ in range(9)]
    return 2 * size**3 / min(times)


def preset_config(preset: str, devices: int) -> Config:
    """The work of a preset on so many devices, with nothing compiled before."""
    overrides = ["replay.capacity=100000", "compilation_cache=false", f"parallel.devices={devices}"]
    size, _, images = preset.partition("_")
    pixels = ["env=cartpole_pixels", "env.image_size=[64,64]"] if images else []
    return load_config([f"size={size}", *pixels, *WORK, *overrides])


def measure(preset: str, updates: int, devices: int) -> dict[str, Any]:
    """All figures of one preset, in this process."""
    config = preset_config(preset, devices)
    prepare(config)
    world = build_world(config)
    try:
        return {"preset": preset} | _measure(world, updates)
    finally:
        world.envs.close()


def _measure(world: World, updates: int) -> dict[str, Any]:
    config = world.config.train
    batch_size, num_envs = config.batch_size, world.envs.num_envs
    replay = build_replay(world, world.config.train.seed)
    collector = Collector(world.envs, world.spec, replay, seed=0)
    started = time.perf_counter()
    state = world.initial_state()
    learner, hyper = world.learner(state), hyper_from_config(world.config)
    policy = Policy(world.networks, learner.acting, num_envs, 0, greedy=False)
    collector.collect(policy, 500)
    collection = median_seconds(lambda: collector.collect(policy, 50), 20) / 50
    started_update = time.perf_counter()

    def update() -> None:
        metrics, _ = learner.update(hyper, replay_batch(world.spec, replay.sample(1, batch_size)))
        jax.block_until_ready(metrics)

    update()
    compiled = time.perf_counter()
    update()
    seconds = median_seconds(update, updates)
    sampling = median_seconds(lambda: replay_batch(world.spec, replay.sample(1, batch_size)), 200)
    flops = update_flops(world, state, replay_batch(world.spec, replay.sample(1, batch_size)))
    peak = matmul_peak()
    pictures = picture_rates(world.config.env) if world.images else {}
    replayed = batch_size * config.batch_length
    return {
        "parameters": sum(leaf.size for leaf in jax.tree.leaves(state.params)),
        "devices": len(world.devices),
        "init_and_act_compile_s": started_update - started,
        "update_compile_s": compiled - started_update - seconds,
        "update_ms": seconds * 1e3,
        "updates_per_s": 1 / seconds,
        "replayed_steps_per_s": replayed / seconds,
        "collected_env_steps_per_s": num_envs / collection,
        "replay_sample_ms": sampling * 1e3,
        "replay_sample_fraction": sampling / seconds,
        "update_gflop": flops / 1e9,
        "matmul_peak_gflops": peak / 1e9,
        "fraction_of_peak": flops / seconds / peak,
        "peak_memory_mb": peak_memory_mb(),
        **pictures,
    }


def picture_rates(config: EnvConfig) -> dict[str, float]:
    """How many pictures one environment renders a second, and how many are then cut and shrunk a second."""
    env, view = make_env(config), ImageView.from_config(config)
    env.reset(seed=0)
    picture = np.asarray(env.render())
    rates = {
        "rendered_per_s": 1 / median_seconds(env.render, 200),
        "cut_and_shrunk_per_s": 1 / median_seconds(lambda: view.show(picture), 200),
    }
    env.close()
    return rates


def update_flops(world: World, state: TrainState, batches: Batch) -> float:
    """Floating-point operations of one update on the whole batch, by XLA's cost analysis."""
    options, hyper = options_from_config(world.config), hyper_from_config(world.config)
    return count_flops(partial(updates, world.networks, options), hyper, state, batches)


def run_presets(presets: Sequence[str], updates: int, devices: int) -> list[dict[str, Any]]:
    """One fresh process per preset."""
    rows = []
    for preset in presets:
        options = ["--worker", preset, "--updates", str(updates), "--devices", str(devices)]
        done = subprocess.run([sys.executable, "-m", "dreamerjax.benchmark", *options], stdout=subprocess.PIPE, check=False)
        if done.returncode:
            raise SystemExit(f"error: the benchmark of {preset} failed with exit code {done.returncode}")
        rows.append(json.loads(done.stdout.splitlines()[-1]))
    return rows


COLUMNS = (
    ("preset", "preset", "{}"),
    ("parameters", "parameters", "{:,}"),
    ("devices", "devices", "{}"),
    ("compile s", "update_compile_s", "{:.1f}"),
    ("update ms", "update_ms", "{:.1f}"),
    ("updates/s", "updates_per_s", "{:.2f}"),
    ("replayed steps/s", "replayed_steps_per_s", "{:,.0f}"),
    ("collected env steps/s", "collected_env_steps_per_s", "{:,.0f}"),
    ("replay sample ms", "replay_sample_ms", "{:.2f}"),
    ("GFLOP", "update_gflop", "{:.1f}"),
    ("of matmul peak", "fraction_of_peak", "{:.0%}"),
    ("peak memory MB", "peak_memory_mb", "{:,.0f}"),
)


def print_table(rows: Sequence[dict[str, Any]]) -> None:
    """The figures as a table, one preset a column."""
    from rich.console import Console
    from rich.table import Table

    table = Table(title="batch 16 x 64, horizon 15, all starts, 255 bins")
    table.add_column("")
    for row in rows:
        table.add_column(row["preset"], justify="right")
    for title, key, form in COLUMNS[1:]:
        table.add_row(title, *(form.format(row[key]) for row in rows))
    Console().print(table)
    for row in rows:
        if "rendered_per_s" in row:
            print(
                f"{row['preset']}: {row['rendered_per_s']:,.0f} pictures rendered a second, "
                f"{row['cut_and_shrunk_per_s']:,.0f} cut and shrunk"
            )
    peak = max(row["matmul_peak_gflops"] for row in rows)
    print(f"{machine()['processor']}, {machine()['cores']} cores, float32 matmul peak {peak:.0f} GFLOP/s")


def parser() -> argparse.ArgumentParser:
    """The command line's grammar."""
    made = Parser(prog="python -m dreamerjax.benchmark", description=(__doc__ or "").splitlines()[0])
    made.add_argument("--presets", nargs="+", choices=PRESETS, default=list(PRESETS))
    made.add_argument("--updates", type=int, default=20, help="timed updates per preset; the median is reported")
    made.add_argument("--devices", type=int, default=0, help="0: one virtual device per core, or all accelerators")
    made.add_argument("--json", metavar="FILE", help="also write the figures here; - prints them instead of the table")
    made.add_argument("--worker", choices=PRESETS, help=argparse.SUPPRESS)
    return made


def main(argv: Sequence[str] | None = None) -> int:
    """The command line."""
    complete(parser)
    options = parser().parse_args(argv)
    if options.worker:
        print(json.dumps(measure(options.worker, options.updates, options.devices)))
        return 0
    rows = run_presets(options.presets, options.updates, options.devices)
    report = json.dumps({"machine": machine(), "presets": rows}, indent=2)
    if options.json == "-":
        print(report)
        return 0
    print_table(rows)
    if options.json:
        with open(options.json, "w") as file:
            file.write(report + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
