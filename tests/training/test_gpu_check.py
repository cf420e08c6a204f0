"""The script that measures an accelerator: what it records of jobs that end well, fail or take too long, and its tables."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from experiments.accelerator import gpu_check, jobs
from experiments.accelerator.jobs import Case, Job, all_cases, all_jobs, fast_jobs
from experiments.accelerator.table import markdown


def test_a_wave_records_what_ends_well_what_fails_and_what_is_late(tmp_path: Path) -> None:
    fails = Job("fails", "update", {"case": {"size": "gigantic"}, "work": []})
    late = Job("late", "device", {"size": 64}, budget=0.0)
    works = Job("device", "device", {"size": 64})
    results = gpu_check.Results(tmp_path, [late, fails, works], 240.0)
    gpu_check.run_wave([late, fails, works], results, time.monotonic() + 240.0)
    recorded = json.loads((tmp_path / "results.json").read_text())["jobs"]
    assert {name: job["state"] for name, job in recorded.items()} == {"device": "done", "fails": "failed", "late": "late"}
    assert recorded["device"]["figures"]["platform"] == "cpu"
    assert recorded["device"]["figures"]["float32_tflops"] > 0
    assert "gigantic" in recorded["fails"]["error"]
    assert recorded["late"]["error"].startswith("not ready after")
    table = (tmp_path / "RESULTS.md").read_text()
    assert "| fails | failed |" in table
    assert "| platform | cpu |" in table


def test_jobs_have_names_of_their_own_and_can_be_chosen(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for listed in (all_jobs(), fast_jobs()):
        names = [job.name for job in listed]
        assert len(set(names)) == len(names)
    waves: list[list[str]] = []

    def run_wave(chosen: list[Job], results: gpu_check.Results, deadline: float) -> None:
        waves.append([job.name for job in chosen])
        for job in chosen:
            results.put(job.name, {"state": "done", "figures": {}})

    monkeypatch.setattr(gpu_check, "run_wave", run_wave)
    assert gpu_check.main(["--only", "size200m, vector", "--wave", "2", "--out", str(tmp_path)]) == 0
    assert waves == [["size200m, vector, bf16", "size200m, vector, tf32"], ["size200m, vector, float32"]]
    assert "3 of 3 jobs done" in capsys.readouterr().out


def test_the_list_covers_sizes_precisions_loops_and_populations() -> None:
    cases = all_cases()
    for size in ("small", "size1m", "size12m", "size100m", "size200m"):
        assert {case.precision for case in cases if case.size == size and not case.images} == {"bf16", "tf32", "float32"}
    assert {case.unroll for case in cases} == {None, 0, 1, 16}
    assert {case.members for case in cases} == {1, 4, 16, 64}
    assert Case("small", members=4, unroll=0).name == "small, vector, bf16, x4, unroll all"
    assert "WHILE" in jobs.update_job(Case("small", cuda_graphs=True), ()).environment["XLA_FLAGS"]


def test_the_share_of_the_peak_counts_all_members() -> None:
    figures: dict[str, Any] = dict.fromkeys(("update_ms", "queued_ms", "trace_s", "compile_s", "peak_memory_gb"), 10.0)
    done: dict[str, Any] = {
        "device": {"bf16_tflops": 2.0},
        "flops": {"small, vector": 1e9},
        "small, vector, bf16, x4": figures | {"replayed_steps_per_s": 1.0},
    }
    records = {name: {"state": "done", "figures": record} for name, record in done.items()}
    page = markdown({"began": "now", "seconds": 1.0, "limit_s": 2.0, "jobs": records})
    assert "| 20.0% |" in page  # four times 1e9 operations in 10 ms, of 2e12 a second
