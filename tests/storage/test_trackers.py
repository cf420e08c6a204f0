"""MLflow and Weights & Biases: real runs that are read back, where the packages are installed (`make test-sinks`)."""

from __future__ import annotations

import dataclasses
import json
import math
import signal
import socket
import struct
from pathlib import Path
from typing import Any

import pytest

from dreamerjax.config.schema import Config, RunConfig
from dreamerjax.storage import sinks
from tests.e2e import trials

PATIENCE = 60.0  # seconds that a busy machine may take
PACKAGES = ("mlflow", "wandb")
BOTH = ("run.mlflow=true", "run.wandb=true")
ENDLESS = (*trials.TINY, "train.steps=1000000000", "train.random_steps=1000000000")


def test_settings_are_all_keys_as_plain_values() -> None:
    settings = sinks.settings_of(Config(resume="runs/x"))
    assert (settings["model.bins.count"], settings["loss.free_bits"], settings["resume"]) == (63, "clip", None)
    assert not any(dataclasses.is_dataclass(value) for value in settings.values())


def services(pid: int) -> list[str]:
    """The command lines of the wandb services that a process has started and that still run."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_text().split("\0")
        except OSError:  # it has just ended
            continue
        if any("wandb" in word for word in words) and f"--pid {pid}" in " ".join(words):
            found.append(" ".join(words))
    return found


def newest_checkpoint(root: Path) -> int:
    """The number of the newest checkpoint below `root`; 0 without one."""
    return max((int(path.name[-6:]) for path in root.glob("*/checkpoints/latest/save_??????")), default=0)


def rows(run: Path) -> list[dict[str, Any]]:
    """The rows in the offline files of a run, in order: a log of LevelDB's format, of protobuf records, after 7 bytes."""
    from wandb.proto.wandb_internal_pb2 import Record

    found = []
    for path in sorted(run.glob("wandb/offline-run-*/run-*.wandb")):
        content, position, record = path.read_bytes(), 7, b""
        while position + 7 <= len(content):
            left = 32768 - position % 32768
            if left < 7:
                position += left
                continue
            length, kind = struct.unpack("<HB", content[position + 4 : position + 7])
            record += content[position + 7 : position + 7 + length]
            position += 7 + length
            if kind in (1, 4):  # whole, or the last part
                items, record = Record.FromString(record).history.item, b""
                row = {item.key or item.nested_key[0]: json.loads(item.value_json) for item in items}
                found += [row] if row else []
    return found


def without_counters(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows without what wandb adds."""
    return [{key: value for key, value in row.items() if key[0] != "_"} for row in found]


def client_of(root: Path) -> Any:
    """MLflow's client for the store below `root`."""
    from mlflow import MlflowClient

    return MlflowClient(tracking_uri=(root / "mlruns").as_uri())


@pytest.fixture
def allow_file_store(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")


@pytest.mark.filterwarnings("ignore")  # of the packages themselves
@pytest.mark.usefixtures("allow_file_store")
def test_both_hold_what_metrics_jsonl_holds_and_nothing_is_sent(tmp_path: Path) -> None:
    for package in PACKAGES:
        pytest.importorskip(package)
    with socket.create_server(("127.0.0.1", 0)) as server:
        proxy = f"http://127.0.0.1:{server.getsockname()[1]}"
        proxies = dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"), proxy)
        arguments = (*trials.TINY, *trials.RANDOM_ONLY, *BOTH, f"run.root={tmp_path}", "run.hypothesis=it is kept")
        with trials.running("train", *arguments, cwd=None, **proxies) as process:
            out, err = process.communicate(timeout=PATIENCE)
        server.settimeout(0)
        with pytest.raises(BlockingIOError):
            server.accept()
    assert (process.returncode, err) == (0, "")
    assert not any(name in out.lower() for name in PACKAGES)
    assert services(process.pid) == []
    run = next(tmp_path.glob("*/sinks.json")).parent
    (experiment,) = [each for each in client_of(tmp_path).search_experiments() if each.name != "Default"]
    (found,) = client_of(tmp_path).search_runs([experiment.experiment_id])
    assert (experiment.name, found.info.run_name, found.info.status) == ("CartPole-v1", run.name, "FINISHED")
    assert found.data.params["model.deter"] == "16"
    assert found.data.params["run.mlflow"] == "True"
    assert found.data.tags["hypothesis"] == "it is kept"
    assert found.data.tags["primary_metric"] == "eval/greedy/return_mean"
    artifacts = {item.path for item in client_of(tmp_path).list_artifacts(found.info.run_id)}
    assert artifacts == {"config.yaml", "meta.json", "summary.json", "media"}
    lines = trials.metrics(run)
    for key in ("episode/return", "update"):
        history = client_of(tmp_path).get_metric_history(found.info.run_id, key)
        assert [(item.step, item.value) for item in history] == [(line["env_step"], line[key]) for line in lines if key in line]
    assert without_counters(rows(run)) == lines


@pytest.mark.filterwarnings("ignore")  # of the packages themselves
@pytest.mark.usefixtures("allow_file_store")
def test_a_killed_run_leaves_no_process_and_goes_on_where_it_was(tmp_path: Path) -> None:
    for package in PACKAGES:
        pytest.importorskip(package)
    with trials.running("train", *ENDLESS, *BOTH, f"run.root={tmp_path}") as process:
        trials.wait_until(lambda: process.poll() is not None or newest_checkpoint(tmp_path) >= 3, PATIENCE)
        run = next(tmp_path.glob("*/sinks.json")).parent
        trials.wait_until(lambda: rows(run), PATIENCE)
        assert len(services(process.pid)) == 1
        process.send_signal(signal.SIGKILL)
        trials.wait_until(lambda: not services(process.pid), seconds=5)
    ids, killed = json.loads((run / "sinks.json").read_text()), rows(run)
    assert client_of(tmp_path).get_run(ids["mlflow"]).info.status == "RUNNING"
    with trials.running("train", f"resume={run}", "train.steps=1000", "train.random_steps=1000") as process:
        _, err = process.communicate(timeout=PATIENCE)
    assert (process.returncode, err) == (0, "")
    assert json.loads((run / "sinks.json").read_text()) == ids
    assert services(process.pid) == []
    found = client_of(tmp_path).get_run(ids["mlflow"])
    assert found.info.status == "FINISHED"
    assert (found.data.params["train.steps"], found.data.tags["resumed.train.steps"]) == ("1000000000", "1000")
    changed = {tag for tag in found.data.tags if tag.startswith("resumed.")}
    assert changed == {"resumed.train.random_steps", "resumed.train.steps"}
    episodes = {(line["env_step"], line["episode/length"]) for line in trials.metrics(run) if "episode/length" in line}
    history = client_of(tmp_path).get_metric_history(ids["mlflow"], "episode/length")
    assert {(item.step, item.value) for item in history} >= episodes
    assert {path.name.rpartition("-")[2] for path in run.glob("wandb/offline-run-*")} == {ids["wandb"]}
    lines, again = trials.metrics(run), rows(run)[len(killed) :]
    assert without_counters(killed)[:1] == lines[:1]
    assert without_counters(again) == lines[-len(again) :]


@pytest.mark.filterwarnings("ignore")  # of the package itself
@pytest.mark.usefixtures("allow_file_store")
def test_mlflow_keeps_numbers_that_are_not_finite_and_starts_anew_where_the_store_is_gone(tmp_path: Path) -> None:
    pytest.importorskip("mlflow")
    config = Config(run=RunConfig(hypothesis="", mlflow=True))
    run = tmp_path / "run"
    run.mkdir()
    (run / "sinks.json").write_text('{"mlflow": "' + 32 * "0" + '", "other": "kept"}')
    sink = sinks.MlflowSink(config, run)
    sink.scalars(1, {"loss/a": math.nan, "loss/b": math.inf}, 0)
    sink.close()
    ids = json.loads((run / "sinks.json").read_text())
    assert ids["other"] == "kept"
    found = client_of(tmp_path).get_run(ids["mlflow"])
    assert math.isnan(found.data.metrics["loss/a"])
    assert found.data.metrics["loss/b"] == math.inf
    assert found.info.status == "FAILED"  # it never wrote a summary
