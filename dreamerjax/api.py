"""Training from Python: `dreamerjax.learn`, over the same functions as the command line."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from contextlib import closing
from typing import Any

from dreamerjax.agent.inference import Agent
from dreamerjax.config.composition import config_from_settings, config_groups
from dreamerjax.config.population import require_alone
from dreamerjax.config.schema import Config
from dreamerjax.core.errors import UserError
from dreamerjax.core.run_directory import find_run
from dreamerjax.core.stopping import Stop
from dreamerjax.envs import Given, make_env
from dreamerjax.envs.given import source_of
from dreamerjax.train import conduct

Callback = Callable[[dict[str, float]], Any]
EVALUATION = "eval/greedy/return_mean"  # in the metrics of every evaluation and of nothing else
_TRAINING = threading.Lock()  # two at a time were seen to keep each other from writing checkpoints


def learn(
    env: Any = None,
    /,
    steps: int | None = None,
    *,
    config: Config | None = None,
    on_log: Callback | None = None,
    on_evaluation: Callback | None = None,
    **settings: Any,
) -> Agent:
    """Train an agent, in a new run directory, and return it as its last checkpoint has it.

    Ctrl-C, a notebook's interrupt, and a callback that returns False end the training with a checkpoint, and what was
    learned is returned. A second Ctrl-C interrupts at once; SIGTERM saves and ends the program. In another thread than the
    main one, only a callback can end the training.

    Args:
        env: an id, an option of the group `env` such as "pendulum", a gymnasium.Env class, or a function that makes an
            environment at each call. With `resume` it may be left out unless it is a class or a function. By keyword, a
            mapping is settings of the environment beside it: `learn(Parking, env={"time_limit": 100})`.
        steps: `train.steps`, the environment steps of the whole run.
        config: what the settings are put on; by default what the command line would start from.
        on_log: called with each line of metrics.jsonl, as a dict, unless it is of an evaluation.
        on_evaluation: called with the metrics of each evaluation, as a dict.
        settings: keys of the configuration and their values: `train={"seed": 1}`, `**{"train.seed": 1}`, `size="tiny"`,
            `resume="runs/<id>"`.

    Raises:
        UserError: bad input, or a fault that ended the run: of the environment, of a callback, of the disk. The run directory
            keeps what was learned.
    """
    if config is not None and not isinstance(config, Config):
        raise UserError(
            f"config must be a Config of dreamerjax, is of type {type(config).__name__}: give settings by their keys"
        )
    for name, callback in (("on_log", on_log), ("on_evaluation", on_evaluation)):
        if callback is not None and not callable(callback):
            raise UserError(f"{name} must be a function of the metrics, not {callback!r}")
    by_name = settings.pop("env", None)
    if isinstance(by_name, Mapping):
        settings |= {f"env.{name}": value for name, value in by_name.items()}
    elif by_name is not None:
        if env is not None:
            raise UserError(f"env is given twice: {env!r} and {by_name!r}; settings beside it are a mapping")
        env = by_name
    options = next(group.options for group in config_groups() if group.word == "env=")
    if env is None and config is None and "resume" not in settings:
        raise UserError("env is missing: an id, a gymnasium.Env class or a function that makes one")
    if steps is not None:
        settings["train.steps"] = steps
    given = None
    if "resume" not in settings and env is not None:
        given = None if isinstance(env, str) else Given(env)
        settings |= {"env": env} if env in options else {"env.id": env if given is None else given.id}
    full = config_from_settings(settings, config)
    require_alone(full)
    if full.resume is not None:
        given = source_of(env, full.env.id, str(find_run(full.resume, full.run.root)))
    if given is not None:
        with closing(make_env(full.env, source=given)):
            pass  # a fault is said before a run begins
    stop = Stop()
    if not _TRAINING.acquire(blocking=False):
        raise UserError("another training of this process is in progress: wait for it, or use a process of its own")
    try:
        path = conduct(full, stop, source=given, listener=_telling(on_log, on_evaluation, stop))
    finally:
        _TRAINING.release()
    if stop.ends_program:
        raise SystemExit(stop.exit_code)
    return Agent.load(path, env=None if given is None else env)


def _telling(on_log: Callback | None, on_evaluation: Callback | None, stop: Stop) -> Callable[[dict[str, float]], None]:
    """Tells the callbacks of a run what it logs, and asks it to stop when one returns False or is interrupted."""

    def tell(record: dict[str, float]) -> None:
        name, callback = ("on_evaluation", on_evaluation) if EVALUATION in record else ("on_log", on_log)
        try:
            if callback is not None and callback(record) is False:
                stop.requested = True
        except KeyboardInterrupt:
            stop.requested = True
        except Exception as error:
            raise UserError(f"{name} raised {type(error).__name__}: {error}", exit_code=1) from error

    return tell
