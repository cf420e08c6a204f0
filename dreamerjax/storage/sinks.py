"""Other places that a run's scalars go to, when asked for: MLflow's file store, and Weights & Biases offline.

Their packages are optional, and neither can end the run: one that fails is dropped.
"""

from __future__ import annotations

import importlib.util
import os
import time
import uuid
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from filelock import FileLock

from dreamerjax.config.flat import flatten
from dreamerjax.config.schema import Config
from dreamerjax.core.errors import UserError
from dreamerjax.core.files import read_json_object, write_json

IDS = "sinks.json"  # in the run directory: what the run is called in each place, so that a resumed run goes on there
WANDB_PROJECT = "dreamerjax"
_STATUS = {"finished": "FINISHED", "solved": "FINISHED", "interrupted": "KILLED"}  # MLflow's words for our outcomes
WANDB_FLUSH_SECONDS = 1.0  # what a killed run can lose there; wandb's own default is 15


class Sink(Protocol):
    """A place for scalars. Made by a call with the run's directory."""

    def scalars(self, step: int, numbers: Mapping[str, float], update: int) -> None:
        """Takes the numbers of one line of metrics.jsonl."""

    def close(self) -> None:
        """Writes what is left and ends every process and thread of its own."""


def chosen_sinks(config: Config) -> dict[str, Callable[[Path], Sink]]:
    """The sinks that the configuration asks for, by name; call one with the run's directory to open it.

    Call it before a run directory is made, since the package of a sink may be missing.

    Raises UserError: the package is not installed.
    """
    chosen: dict[str, Callable[[Path], Sink]] = {}
    for package, name, sink in (("mlflow", "MLflow", MlflowSink), ("wandb", "Weights & Biases", WandbSink)):
        if getattr(config.run, package):
            found = importlib.util.find_spec(package)
            if found is None or found.origin is None:  # without origin it is a mere folder of that name, as wandb makes one
                need = f"needs a package that is not installed: pip install 'dreamerjax[{package}]'"
                raise UserError(f"run.{package}=true {need}")
            chosen[name] = partial(sink, config)
    return chosen


class FanOut:
    """Hands scalars to every sink. They are opened with the first scalars; one that fails is dropped with a message."""

    def __init__(self, sinks: Mapping[str, Callable[[Path], Sink]], directory: Path, say: Callable[[str], None]) -> None:
        """Opens nothing yet. `directory` is the run's, `say` shows a line."""
        self._waiting = dict(sinks)
        self._open: dict[str, Sink] = {}
        self._directory, self._say = directory, say

    def scalars(self, step: int, numbers: Mapping[str, float], update: int) -> None:
        """Hands one line of metrics to the sinks that still work. Raises nothing of theirs."""
        for name in [*self._waiting, *self._open]:
            with self._dropped_if_it_fails(name):
                if name in self._waiting:
                    self._open[name] = self._waiting.pop(name)(self._directory)
                self._open[name].scalars(step, numbers, update)

    def close(self) -> None:
        """Closes the sinks that were opened. Harmless when repeated; raises nothing of theirs."""
        self._waiting = {}
        for name in list(self._open):
            with self._dropped_if_it_fails(name):
                self._open.pop(name).close()

    @contextmanager
    def _dropped_if_it_fails(self, name: str) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            reason = f"{type(error).__name__}: {error}".partition("\n")[0]
            self._say(f"{name} gets no more metrics of this run, which goes on without it: {reason}")
            if name in self._open:
                with suppress(Exception):  # already reported
                    self._open.pop(name).close()


class MlflowSink:
    """MLflow's file store in `mlruns` beside the run's directory. No server, and nothing is sent anywhere.

    Experiment: the environment's id. Run: the run directory's name; parameters are all configuration keys, tags the
    hypothesis and the primary metric, artifacts (at the end) the configuration, the summary and the figures.
    """

    def __init__(self, config: Config, directory: Path) -> None:
        """Starts a run, or continues the one that `sinks.json` names."""
        os.environ["MLFLOW_ALLOW_FILE_STORE"] = "true"  # without it MLflow 3.x wants a database
        os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of MLflow and what it imports
            from mlflow import MlflowClient  # slow to import

            store = directory.resolve().parent / "mlruns"
            self._client = MlflowClient(tracking_uri=store.as_uri())
        self._directory = directory
        self._run_id = str(read_json_object(directory / IDS).get("mlflow", ""))
        values = {key: str(value) for key, value in settings_of(config).items()}
        if not self._continued(values):
            self._start(config, values, store)

    def _continued(self, values: Mapping[str, str]) -> bool:
        """Whether the earlier run is still in the store; MLflow keeps its parameters, so changed ones become tags."""
        from mlflow.exceptions import MlflowException

        if not self._run_id:
            return False
        try:
            before = self._client.get_run(self._run_id).data.params
        except MlflowException:
            return False
        self._client.update_run(self._run_id, status="RUNNING")
        for key, value in values.items():
            if before.get(key) != value:
                self._client.set_tag(self._run_id, f"resumed.{key}", value)
        return True

    def _start(self, config: Config, values: Mapping[str, str], store: Path) -> None:
        with FileLock(store / ".lock"):  # two runs that start together must not make two experiments of one name
            experiment = self._client.get_experiment_by_name(config.env.id)
            experiment_id = experiment.experiment_id if experiment else self._client.create_experiment(config.env.id)
        tags = {"hypothesis": config.run.hypothesis, "primary_metric": config.run.primary_metric}
        self._run_id = self._client.create_run(experiment_id, run_name=self._directory.name, tags=tags).info.run_id
        for key, value in values.items():  # one by one: a batch is limited to 100
            self._client.log_param(self._run_id, key, value)
        _keep_id(self._directory, "mlflow", self._run_id)

    def scalars(self, step: int, numbers: Mapping[str, float], update: int) -> None:
        """Appends to the metrics' files, `update` among them; `step` is the environment step."""
        from mlflow.entities import Metric

        now = int(1000 * time.time())
        metrics = [Metric(key, value, now, step) for key, value in {**numbers, "update": float(update)}.items()]
        self._client.log_batch(self._run_id, metrics=metrics)

    def close(self) -> None:
        """Copies the small files of the run and says how it ended."""
        files = [self._directory / name for name in ("config.yaml", "meta.json", "summary.json")]
        for path in filter(Path.is_file, files):
            self._client.log_artifact(self._run_id, str(path))
        for path in sorted((self._directory / "media").glob("*.png")):
            self._client.log_artifact(self._run_id, str(path), "media")
        outcome = str(read_json_object(self._directory / "summary.json").get("outcome"))
        self._client.set_terminated(self._run_id, _STATUS.get(outcome, "FAILED"))


class WandbSink:
    """Weights & Biases without network or login: it writes below `wandb` in the run directory, for a later `wandb sync`.

    Its own step only counts rows, which lets a row come late; the axis of every metric is `env_step`.
    """

    def __init__(self, config: Config, directory: Path) -> None:
        """Starts a run, or another part of the one that `sinks.json` names."""
        os.environ["WANDB_ERROR_REPORTING"] = "false"
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of wandb and what it imports
            import wandb  # slow to import

        run_id = str(read_json_object(directory / IDS).get("wandb") or uuid.uuid4().hex[:12])
        self._directory, self._teardown = directory, wandb.teardown
        self._run = wandb.init(
            project=WANDB_PROJECT,
            id=run_id,
            name=directory.name,
            notes=config.run.hypothesis,
            config=settings_of(config),
            dir=str(directory),
            mode="offline",
            settings=wandb.Settings(
                silent=True,
                console="off",
                disable_git=True,
                save_code=False,
                x_disable_stats=True,
                x_disable_machine_info=True,
                x_transaction_log_flush_interval=WANDB_FLUSH_SECONDS,
            ),
        )
        self._run.define_metric("*", step_metric="env_step")
        _keep_id(directory, "wandb", run_id)

    def scalars(self, step: int, numbers: Mapping[str, float], update: int) -> None:
        """Adds a row."""
        self._run.log({**numbers, "env_step": step, "update": update})

    def close(self) -> None:
        """Adds the summary, and ends wandb's service process."""
        try:
            self._run.summary.update(read_json_object(self._directory / "summary.json"))
            self._run.finish()
        finally:
            self._teardown()


def settings_of(config: Config) -> dict[str, Any]:
    """Each configuration key with its value, enumerations by name; not `resume`, which belongs to a process."""
    return flatten(replace(config, resume=None))


def _keep_id(directory: Path, sink: str, value: str) -> None:
    write_json(directory / IDS, read_json_object(directory / IDS) | {sink: value})
