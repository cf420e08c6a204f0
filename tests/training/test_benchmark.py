"""The benchmark measures what it says it does. The work is a fraction of the real one."""

from __future__ import annotations

import contextlib
import io
import json
import subprocess
from functools import partial
from pathlib import Path

import jax.numpy as jnp
import pytest

from dreamerjax import benchmark
from tests.e2e import trials

SMALL = tuple(f"{trials.MODEL} {trials.LOOP}".split()[1:])  # without the size, which the preset gives


@pytest.fixture(scope="module")
def row() -> dict[str, float]:
    """The figures of one preset, as a worker prints them."""
    out = io.StringIO()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(out):
        patch.setattr(benchmark, "WORK", SMALL)
        patch.setattr(benchmark, "matmul_peak", partial(benchmark.matmul_peak, size=256))
        assert benchmark.main(["--worker", "tiny", "--updates", "2", "--devices", "2"]) == 0
    values: dict[str, float] = json.loads(out.getvalue())
    return values


def test_figures_are_sane(row: dict[str, float]) -> None:
    assert row.keys() >= {key for _, key, _ in benchmark.COLUMNS} | {"init_and_act_compile_s", "matmul_peak_gflops"}
    assert (row["preset"], row["devices"]) == ("tiny", 2)
    assert all(value > 0 for key, value in row.items() if key not in ("preset", "update_compile_s"))
    assert row["updates_per_s"] == pytest.approx(1e3 / row["update_ms"])
    assert row["replayed_steps_per_s"] == pytest.approx(4 * 8 * row["updates_per_s"])
    assert row["replay_sample_fraction"] == pytest.approx(row["replay_sample_ms"] / row["update_ms"])
    expected = row["update_gflop"] / row["matmul_peak_gflops"] * row["updates_per_s"]
    assert row["fraction_of_peak"] == pytest.approx(expected)
    assert row["fraction_of_peak"] < 1
    assert row["matmul_peak_gflops"] > 1
    assert 50 < row["peak_memory_mb"] < 20_000


def test_pictures_are_timed() -> None:
    pytest.importorskip("pygame")
    rates = benchmark.picture_rates(benchmark.load_config(["env=cartpole_pixels"]).env)
    assert rates["cut_and_shrunk_per_s"] > rates["rendered_per_s"] > 10


def test_report(
    row: dict[str, float], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = []

    def run_presets(presets: list[str], updates: int, devices: int) -> list[dict[str, float]]:
        asked.append((presets, updates, devices))
        return [row]

    monkeypatch.setattr(benchmark, "run_presets", run_presets)
    assert benchmark.main(["--presets", "tiny", "--updates", "2", "--json", "-"]) == 0
    assert asked == [(["tiny"], 2, 0)]
    printed = json.loads(capsys.readouterr().out)
    assert printed["presets"] == [row]
    assert printed["machine"]["cores"] >= 1
    assert benchmark.main(["--json", str(tmp_path / "figures.json")]) == 0
    assert asked[1] == (list(benchmark.PRESETS), 20, 0)
    table = capsys.readouterr().out
    assert all(title in table for title, _, _ in benchmark.COLUMNS[1:])
    assert json.loads((tmp_path / "figures.json").read_text()) == printed


def test_the_work_is_as_announced() -> None:
    config = benchmark.load_config(["size=size1m", *benchmark.WORK])
    assert (config.train.batch_size, config.train.batch_length, config.behavior.horizon) == (16, 64, 15)
    assert (config.behavior.starts, config.model.bins.count) == (0, 255)


def test_a_worker_that_fails_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    failed = subprocess.CompletedProcess([], 3, stdout=b"")
    monkeypatch.setattr(subprocess, "run", lambda *arguments, **options: failed)
    with pytest.raises(SystemExit, match="the benchmark of tiny failed with exit code 3"):
        benchmark.run_presets(["tiny"], 1, 0)


def test_matmul_peak_is_of_this_order() -> None:
    assert benchmark.matmul_peak(size=64) > 1e7
    assert benchmark.median_seconds(lambda: jnp.ones(3).block_until_ready(), 3) > 0
