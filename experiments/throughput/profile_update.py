"""Where the time of an update goes: `python experiments/throughput/profile_update.py [PRESET ...]`.

Presets are those of `dreamerjax.benchmark`, and sizes. JAX's profiler times the operations on one device; the compiled program
says what each does, and which function of the package asked for it. An operation counts with its median time, as often as it
ran, so that a busy machine spoils little.
"""

from __future__ import annotations

import math
import re
import statistics
import sys
import tempfile
from collections import defaultdict
from pathlib import Path
from typing import NamedTuple

import jax
from jax.profiler import ProfileData

from dreamerjax.agent.learner import compiled_updates, replicate, split_batches
from dreamerjax.agent.state import hyper_from_config, options_from_config
from dreamerjax.benchmark import matmul_peak, preset_config
from dreamerjax.training.runtime import prepare
from dreamerjax.training.world import build_replay, build_world, replay_batch

UPDATES = 5  # in the trace
SHOWN = 0.01  # of all, from which share on a row is printed
PARTS = {  # the innermost of these functions names the part of an update that asked for an operation
    "ImageEncoder.__call__": "images",
    "ImageDecoder.__call__": "images",
    "observe": "filter",
    "world_model_loss": "world-model losses",
    "imagine": "dreams",
    "dream_targets": "returns",
    "actor_loss": "actor",
    "dream_critic_loss": "critic",
    "replay_critic_loss": "critic",
    "apply_gradients": "optimiser",
    "ema_update": "averages",
    "draw_noise": "noise",
}
LINE = re.compile(r"\s+(?:ROOT )?%([\w.\-]+) = (\(.*?\)|\S+) ([\w\-]+)\((.*?)\)")
MOVES = {
    "copy",
    "transpose",
    "bitcast",
    "parameter",
    "slice",
    "dynamic-slice",
    "dynamic-update-slice",
    "concatenate",
    "pad",
    "fusion",
}


class Operation(NamedTuple):
    """One operation of a compiled program."""

    kind: str  # convolution, product, move, loop or elementwise (reductions included)
    part: str
    flops: float  # of products and convolutions


class Program:
    """The text of a compiled program: its operations by name, those inside fusions excepted."""

    def __init__(self, text: str) -> None:
        tables: dict[str, dict[str, str]] = {"FunctionNames": {}, "FileLocations": {}, "StackFrames": {}}
        self._bodies: dict[str, list[str]] = defaultdict(list)
        self._sizes: dict[str, list[int]] = {}
        body, table = "", None
        for line in text.splitlines():
            if opened := re.match(r"(?:ENTRY )?%?([\w.\-]+) \(.*\{$", line):
                body = opened[1]
            elif found := LINE.match(line):
                self._bodies[body].append(line)
                shape = re.match(r"\w+\[([\d,]*)\]", found[2])
                self._sizes[found[1]] = [int(n) for n in shape[1].split(",") if n] if shape else []
            elif line in tables or not line:
                table = tables.get(line)
            elif table is not None:
                number, entry = line.split(" ", 1)
                table[number] = entry
        self._frames = tables
        fused = {
            called for lines in self._bodies.values() for line in lines for called in re.findall(r"calls=%([\w.\-]+)", line)
        }
        self.operations = {
            LINE.match(line)[1]: self._operation(line)
            for name, lines in self._bodies.items()
            if name not in fused
            for line in lines
        }

    def _operation(self, line: str) -> Operation:
        called = re.search(r"calls=%([\w.\-]+)", line)
        inside = [line, *(self._bodies[called[1]] if called else [])]
        opcodes = {LINE.match(each)[3] for each in inside}
        flops = sum(map(self._flops, inside))
        if opcodes & {"while", "call", "conditional"}:
            kind = "loop"
        elif flops:
            kind = "convolution" if "convolution" in opcodes else "product"
        else:
            kind = "move" if opcodes <= MOVES else "elementwise"
        return Operation(kind, self._part(line) + (", backward" if "transpose(" in line else ""), flops)

    def _flops(self, line: str) -> float:
        name, _, opcode, rest = LINE.match(line).groups()
        operands = [self._sizes.get(operand, []) for operand in re.findall(r"%([\w.\-]+)", rest)]
        if opcode == "dot":
            contracted = re.search(r"lhs_contracting_dims=\{([\d,]+)\}", line)[1].split(",")
            return 2.0 * math.prod(self._sizes[name]) * math.prod(operands[0][int(i)] for i in contracted)
        if opcode == "convolution":
            outputs = re.search(r"dim_labels=\w+_(\w+)->", line)[1].index("o")
            return 2.0 * math.prod(self._sizes[name]) * math.prod(operands[1]) / operands[1][outputs]
        return 0.0

    def _part(self, line: str) -> str:
        found = re.search(r"stack_frame_id=(\d+)", line)
        frame = found[1] if found else "0"
        while frame in self._frames["StackFrames"]:
            location, parent = re.findall(r"=(\d+)", self._frames["StackFrames"][frame])
            function = re.search(r"function_name_id=(\d+)", self._frames["FileLocations"][location])[1]
            name = self._frames["FunctionNames"][function].strip('"').split(".<locals>")[0]
            if name in PARTS:
                return PARTS[name]
            frame = str(int(parent) - 1)
        return "rest"


def spent(directory: str) -> dict[str, tuple[float, float]]:
    """Of a trace: how often each operation ran in one update, and its seconds in all."""
    seen = defaultdict(list)
    (file,) = Path(directory).rglob("*.xplane.pb")
    for plane in ProfileData.from_file(str(file)).planes:
        for event in (event for line in plane.lines for event in line.events):
            seen[event.name].append(event.duration_ns * 1e-9)
    return {name: (len(each) / UPDATES, statistics.median(each) * len(each) / UPDATES) for name, each in seen.items()}


def table(program: Program, times: dict[str, tuple[float, float]]) -> None:
    """Print parts and kinds of operations, the most expensive first, in Markdown."""
    rows: dict[tuple[str, str], list[float]] = defaultdict(lambda: [0.0, 0.0, 0.0])
    for name, operation in program.operations.items():
        if name in times and operation.kind != "loop":
            runs, seconds = times[name]
            for number, value in enumerate((seconds, runs * operation.flops, 1)):
                rows[operation.part, operation.kind][number] += value
    total = sum(row[0] for row in rows.values())
    print("| part | kind | share | GFLOP | GFLOP/s | operations |\n|---|---|---|---|---|---|")
    shown = {key: row for key, row in rows.items() if row[0] >= SHOWN * total}
    for (part, kind), (seconds, flops, count) in sorted(shown.items(), key=lambda item: -item[1][0]):
        print(f"| {part} | {kind} | {seconds / total:.1%} | {flops / 1e9:.2f} | {flops / seconds / 1e9:.0f} | {count:.0f} |")
    rest = [sum(values) for values in zip(*(row for key, row in rows.items() if key not in shown), strict=True)]
    print(f"| all others | | {rest[0] / total:.1%} | {rest[1] / 1e9:.2f} | | {rest[2]:.0f} |")
    flops, peak = sum(row[1] for row in rows.values()), matmul_peak()
    at_peak = f"{flops / peak * 1e3:.0f} ms at the matmul peak of {peak / 1e9:.0f} GFLOP/s"
    print(f"\n{total * 1e3:.0f} ms; {flops / 1e9:.1f} GFLOP take {at_peak}\n")


def profile(preset: str) -> None:
    """Print the table of one preset."""
    config = preset_config(preset, devices=1)
    prepare(config)
    world = build_world(config)
    batches = split_batches(replay_batch(world.spec, build_replay(world, 0).blank(1, config.train.batch_size)), 1)
    hyper, state = hyper_from_config(config), replicate(world.initial_state(), world.devices)
    update = compiled_updates(world.networks, options_from_config(config), world.devices).lower(hyper, state, batches).compile()
    state = jax.block_until_ready(update(hyper, state, batches))[0]
    with tempfile.TemporaryDirectory() as directory:
        with jax.profiler.trace(directory):
            for _ in range(UPDATES):
                state = jax.block_until_ready(update(hyper, state, batches))[0]
        print(f"{preset}\n")
        table(Program(update.as_text()), spent(directory))
    world.envs.close()


if __name__ == "__main__":
    for preset in sys.argv[1:] or ["size1m", "size1m_images"]:
        profile(preset)
