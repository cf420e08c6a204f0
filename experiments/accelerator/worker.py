"""One job in a process of its own: `python -m experiments.accelerator.worker FUNCTION ARGUMENTS`, the arguments as JSON.

It prints `@ready` once what may run beside other jobs is done (compiling), waits for a line on its standard input, then
measures alone and prints `@result` and its figures as JSON.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import replace
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dreamerjax.agent.learner import updates
from dreamerjax.agent.state import Batch, Hyper, TrainState, hyper_from_config, init_train_state, options_from_config
from dreamerjax.config.composition import load_config
from dreamerjax.config.schema import Config
from dreamerjax.core.machine import machine
from dreamerjax.core.types import ActionSpec, EnvSpec, ObservationSpec
from dreamerjax.networks.build import Networks, build_networks
from dreamerjax.networks.loops import ACCELERATOR
from dreamerjax.training.flops import count_flops
from experiments.accelerator.jobs import Case

Figures = dict[str, Any]
PRECISIONS = {"float32": "highest", "tf32": "tensorfloat32", "bf16": "default"}
SECONDS = 1.5  # that each of the two timings of an update takes, at most


def report(kind: str, figures: Figures) -> None:
    """One line for the process that waits for it."""
    print(f"@{kind} {json.dumps(figures)}", flush=True)


def wait_for_turn() -> None:
    """From here on nothing else runs."""
    report("ready", {})
    sys.stdin.readline()


def seconds_per_call(call: Callable[[], Any]) -> tuple[float, float]:
    """Of a warm call: the median when each is waited for, and the mean when they queue up."""
    times: list[float] = []
    while sum(times) < SECONDS and len(times) < 50:
        started = time.perf_counter()
        jax.block_until_ready(call())
        times.append(time.perf_counter() - started)
    count = max(3, len(times))
    started = time.perf_counter()
    for _ in range(count):
        last = call()
    jax.block_until_ready(last)
    return float(np.median(times)), (time.perf_counter() - started) / count


def configuration(size: str, precision: str, work: list[str]) -> Config:
    """A size's configuration with the measured work."""
    dtype = "bfloat16" if precision == "bf16" else "float32"
    return load_config([f"size={size}", *work, "optim.warmup=0", f"model.compute_dtype={dtype}"])


def networks_for(config: Config, *, images: bool = False) -> Networks:
    """Modules for CartPole's spaces: four numbers or a picture, two actions."""
    seen = ObservationSpec((64, 64, 3), is_image=True) if images else ObservationSpec((4,))
    return build_networks(EnvSpec({"image" if images else "state": seen}, ActionSpec(sizes=(2,))), config.model)


def precision_of(name: str) -> AbstractContextManager[Any]:
    """How float32 factors of a product are read while a program is traced."""
    context: AbstractContextManager[Any] = jax.default_matmul_precision(PRECISIONS[name])
    return context


def synthetic(networks: Networks, config: Config, seed: int) -> Batch:
    """A batch [1, T, B, ...] of a little world that can be learned: a rotation that the action pushes, and rare ends."""
    rng = np.random.default_rng(seed)
    time_, batch = config.train.batch_length, config.train.batch_size
    action = rng.integers(0, 2, (time_, batch, 1), dtype=np.int32)
    turn, state = np.linalg.qr(np.random.default_rng(0).normal(size=(4, 4)))[0], rng.normal(size=(batch, 4))
    states = []
    for t in range(time_):
        state = state @ turn + 0.3 * (action[t] - 0.5)
        states.append(state)
    vectors = np.asarray(states, np.float32)
    is_last = rng.uniform(size=(time_, batch)) < 0.02
    rssm = networks.rssm
    observations: dict[str, np.ndarray] = {}
    for name, spec in networks.spec.observations.items():
        pictures = rng.integers(0, 256, (1, time_, batch, *spec.shape), dtype=np.uint8) if spec.is_image else None
        observations[name] = vectors[None] if pictures is None else pictures
    return Batch(
        observations=observations,
        action=action[None],
        reward=np.tanh(vectors[None, ..., 0]),
        is_first=np.concatenate([np.zeros((1, batch), bool), is_last[:-1]])[None],
        is_last=is_last[None],
        is_terminal=is_last[None],
        context_action=np.zeros((1, batch, 1), np.int32),
        context_deter=np.zeros((1, batch, rssm.deter), np.float32),
        context_stoch=np.zeros((1, batch, rssm.groups), np.uint8),
    )


def setting(networks: Networks, config: Config, members: int = 1) -> tuple[Hyper, TrainState, Batch]:
    """What an update takes, on the device; of several members with a leading axis of members."""
    keys = jax.random.split(jax.random.key(0), members)
    state = jax.jit(jax.vmap(partial(init_train_state, networks)))(keys)
    batches = [synthetic(networks, config, seed) for seed in range(members)]
    hyper = jax.tree.map(lambda leaf: np.full(members, leaf), hyper_from_config(config))
    inputs = (hyper, state, jax.tree.map(lambda *leaves: np.stack(leaves), *batches))
    if members == 1:
        inputs = jax.tree.map(lambda leaf: leaf[0], inputs)
    return jax.device_put(inputs)


def program(networks: Networks, config: Config, members: int = 1) -> Any:
    """(hyper, state, batches) to what `updates` returns; the state's memory is used again."""
    function = partial(updates, networks, options_from_config(config))
    return jax.jit(jax.vmap(function) if members > 1 else function, donate_argnums=1)


def update(case: dict[str, Any], work: list[str]) -> Figures:
    """Compile one update, then time it."""
    chosen = Case(**case)
    config = configuration(chosen.size, chosen.precision, work)
    networks = networks_for(config, images=chosen.images)
    changes = {name: case[name] for name in ("unroll", "heads_step_by_step") if case[name] is not None}
    networks = replace(networks, loops=replace(networks.loops, **changes))
    hyper, state, batch = setting(networks, config, chosen.members)
    started = time.perf_counter()
    with precision_of(chosen.precision):
        lowered = program(networks, config, chosen.members).lower(hyper, state, batch)
    traced = time.perf_counter()
    compiled = lowered.compile()
    figures: Figures = {"trace_s": traced - started, "compile_s": time.perf_counter() - traced}
    figures["parameters"] = sum(leaf.size for leaf in jax.tree.leaves(state.params)) // chosen.members
    held = [state]

    def call() -> Any:
        held[0], metrics, *_ = compiled(hyper, held[0], batch)
        return metrics

    wait_for_turn()
    jax.block_until_ready(call())
    jax.block_until_ready(call())
    blocked, queued = seconds_per_call(call)
    steps = config.train.batch_size * config.train.batch_length * chosen.members
    figures |= {"update_ms": blocked * 1e3, "queued_ms": queued * 1e3, "replayed_steps_per_s": steps / blocked}
    memory = jax.local_devices()[0].memory_stats() or {}
    figures["peak_memory_gb"] = memory["peak_bytes_in_use"] / 1e9 if "peak_bytes_in_use" in memory else None
    figures["finite"] = all(bool(np.isfinite(value).all()) for value in jax.device_get(call()).values())
    if chosen.trace:
        report("partial", figures)  # a profiler that fails loses only its own figures
        figures["trace"] = kernels(call)
    return figures


def kernels(call: Callable[[], Any], calls: int = 3) -> Figures:
    """How many kernels a call launches, and the share of the wall time in which the device is busy, by a profiler trace."""
    with tempfile.TemporaryDirectory() as folder:
        with jax.profiler.trace(folder):
            started = time.perf_counter()
            for _ in range(calls):
                jax.block_until_ready(call())
            wall = time.perf_counter() - started
        found = list(Path(folder).rglob("*.xplane.pb"))
        data = jax.profiler.ProfileData.from_file(str(found[0]))
        events = [
            (event.start_ns, event.start_ns + event.duration_ns, event.name)
            for plane in data.planes
            if plane.name.startswith("/device:")
            for line in plane.lines
            if line.name.startswith("Stream")
            for event in line.events
        ]
    busy, end = 0.0, 0.0
    by_name: dict[str, float] = {}
    for first, last, name in sorted(events):
        busy += max(0.0, last - max(first, end))
        end = max(end, last)
        by_name[name] = by_name.get(name, 0.0) + (last - first) / 1e6 / calls
    longest = sorted(by_name.items(), key=lambda item: -item[1])[:15]
    return {
        "kernels": len(events) / calls,
        "busy_ms": busy / 1e6 / calls,
        "wall_ms": wall * 1e3 / calls,
        "busy_share": busy / 1e9 / wall,
        "longest_ms": dict(longest),
    }


def device(size: int) -> Figures:
    """What the machine is, and how fast it multiplies, copies and goes round a loop."""
    first = jax.devices()[0]
    memory = first.memory_stats() or {}
    packages = ("jax", "jaxlib", "jax-cuda13-plugin", "jax-cuda12-plugin", "flax", "optax", "numpy")
    figures: Figures = {
        "platform": first.platform,
        "devices": [str(each) for each in jax.devices()],
        "kind": first.device_kind,
        "memory_gb": memory.get("bytes_limit", 0) / 1e9,
        "driver": driver(),
        "versions": {name: found for name in packages if (found := installed(name))},
        **machine(),
    }
    wait_for_turn()
    left, right = (jax.random.normal(key, (size, size)) for key in jax.random.split(jax.random.key(0)))
    for name, dtype in (("bf16", jnp.bfloat16), ("tf32", jnp.float32), ("float32", jnp.float32)):
        with precision_of(name):
            multiply = jax.jit(jnp.matmul)
            factors = left.astype(dtype), right.astype(dtype)
            jax.block_until_ready(multiply(*factors))
            queued = seconds_per_call(partial(multiply, *factors))[1]
        figures[f"{name}_tflops"] = 2 * size**3 / queued / 1e12
    large = jnp.ones((size, size, 4))
    copy = jax.jit(lambda x: x + 1)
    jax.block_until_ready(copy(large))
    figures["memory_gb_per_s"] = 2 * large.nbytes / seconds_per_call(partial(copy, large))[1] / 1e9
    turns = 1000
    loop = jax.jit(lambda x: jax.lax.fori_loop(0, turns, lambda _, y: jnp.sin(jnp.cumsum(y)), x))
    jax.block_until_ready(loop(jnp.ones(64)))
    figures["loop_turn_us"] = seconds_per_call(partial(loop, jnp.ones(64)))[0] / turns * 1e6
    return figures


def installed(package: str) -> str | None:
    """Its version, if it is there."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def driver() -> str | None:
    """What nvidia-smi says of the card, if there is one."""
    command = ["nvidia-smi", "--query-gpu=name,driver_version,memory.total", "--format=csv,noheader"]
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=20, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None


def equality(size: str, work: list[str]) -> Figures:
    """One update from the same state and batch on the accelerator and on the CPU, in float32."""
    config = configuration(size, "float32", work)
    networks = networks_for(config)
    hyper, state, batch = setting(networks, config)
    state = state._replace(params=jax.tree.map(perturbed, state.params))
    places = {"accelerator": jax.devices()[0], "cpu": jax.devices("cpu")[0]}
    compiled, inputs = {}, {}
    with precision_of("float32"):
        for name, place in places.items():
            inputs[name] = jax.device_put((hyper, state, batch), place)
            compiled[name] = jax.jit(partial(updates, networks, options_from_config(config))).lower(*inputs[name])
    with ThreadPoolExecutor(2) as pool:
        programs = dict(zip(compiled, pool.map(lambda lowered: lowered.compile(), compiled.values()), strict=True))
    results = {name: programs[name](*inputs[name]) for name in places}
    after, before = {name: jax.device_get(result[0].params) for name, result in results.items()}, jax.device_get(state.params)
    metrics = {name: jax.device_get(result[1]) for name, result in results.items()}
    errors = {
        name: relative(metrics["accelerator"][name], value)
        for name, value in metrics["cpu"].items()
        if name.startswith(("loss/", "gradient_norm/"))
    }
    changes = {name: vector(params) - vector(before) for name, params in after.items()}
    latents = [jax.device_get(result[2].stoch) for result in results.values()]
    return {
        "compared": f"{places['accelerator']} with {places['cpu']}",
        "relative_error": errors,
        "largest_loss_error": max(value for name, value in errors.items() if name.startswith("loss/")),
        "parameters_error": relative(vector(after["accelerator"]), vector(after["cpu"])),
        "change_error": relative(changes["accelerator"], changes["cpu"]),
        "other_latents": float(np.mean(latents[0] != latents[1])),
    }


def perturbed(leaf: jax.Array) -> jax.Array:
    """A parameter away from its start, at which heads say nothing."""
    return leaf + 0.02 * jnp.cos(jnp.arange(leaf.size, dtype=jnp.float32)).reshape(leaf.shape)


def vector(tree: Any) -> np.ndarray:
    """All leaves as one row of float64."""
    return np.concatenate([np.ravel(leaf).astype(np.float64) for leaf in jax.tree.leaves(tree)])


def relative(one: Any, other: Any) -> float:
    """||one - other|| / ||other||."""
    return float(np.linalg.norm(np.subtract(one, other, dtype=np.float64)) / max(float(np.linalg.norm(other)), 1e-30))


def curve(size: str, work: list[str], updates: int) -> Figures:
    """The world model's and the critic's losses over updates on the same eight batches, in bfloat16 and in float32."""
    precisions, prepared = ("float32", "bf16"), []
    for name in precisions:
        config = configuration(size, name, work)
        networks = networks_for(config)
        hyper, state, first = setting(networks, config)
        with precision_of(name):
            prepared.append((program(networks, config).lower(hyper, state, first), hyper, state))
    with ThreadPoolExecutor(2) as pool:
        programs = list(pool.map(lambda item: item[0].compile(), prepared))
    batches = [jax.device_put(synthetic(networks, config, seed)) for seed in range(8)]
    curves: dict[str, list[float]] = {}
    for name, compiled, (_, hyper, state) in zip(precisions, programs, prepared, strict=True):
        kept = []
        for number in range(updates):
            state, metrics, *_ = compiled(hyper, state, batches[number % len(batches)])
            kept.append({key: value for key, value in metrics.items() if key.startswith("loss/") and key != "loss/actor"})
        curves[name] = [float(sum(value[0] for value in losses.values())) for losses in jax.device_get(kept)]
    window = min(20, updates)
    smooth = {name: np.convolve(values, np.ones(window) / window, "valid") for name, values in curves.items()}
    distance = np.abs(smooth["bf16"] - smooth["float32"]) / np.abs(smooth["float32"])
    return {
        "updates": updates,
        "window": window,
        "largest_relative_difference": float(distance.max()),
        "at_update": int(distance.argmax()) + window,
        "last": {name: float(values[-1]) for name, values in smooth.items()},
        "curves": {name: [round(value, 5) for value in values[:: max(1, updates // 40)]] for name, values in curves.items()},
    }


def solve(overrides: list[str]) -> Figures:
    """CartPole-v1 from a cold start until it is solved, as a user runs it."""
    with tempfile.TemporaryDirectory() as root:
        fixed = [f"run.root={root}", "compilation_cache=false"]
        command = [sys.executable, "-m", "dreamerjax.train", "+experiment=cartpole", *fixed, *overrides]
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
        found = list(Path(root).rglob("summary.json"))
        if done.returncode or not found:
            lines = done.stdout.strip().splitlines() or ["no output"]
            raise SystemExit(f"exit code {done.returncode}: {lines[-1]}")
        summary = json.loads(found[0].read_text())
        devices = json.loads((found[0].parent / "meta.json").read_text()).get("devices")
    names = ("outcome", "env_steps", "updates", "seconds", "first_update_seconds", "solved_step", "solved_seconds")
    return {"devices": devices} | {name: summary[name] for name in (*names, "loop_overhead", "last_return", "best_return")}


def flops(kinds: list[tuple[str, bool]], work: list[str]) -> Figures:
    """Floating-point operations of one update of each size and observation, with the accelerator's loops."""
    counts = {}
    for size, images in kinds:
        config = configuration(size, "float32", work)
        networks = replace(networks_for(config, images=images), loops=ACCELERATOR)
        state = jax.eval_shape(partial(init_train_state, networks), jax.random.key(0))
        function = partial(updates, networks, options_from_config(config))
        count = count_flops(function, hyper_from_config(config), state, synthetic(networks, config, 0))
        counts[f"{size}, {'images' if images else 'vector'}"] = count
        report("partial", counts)
    return counts


FUNCTIONS = {function.__name__: function for function in (device, equality, curve, solve, flops, update)}

if __name__ == "__main__":
    report("result", FUNCTIONS[sys.argv[1]](**json.loads(sys.argv[2])))
