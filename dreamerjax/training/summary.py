"""What a run says at its end: the summary, the learning curve, the closing words."""

from __future__ import annotations

from pathlib import Path

from dreamerjax.config.flat import flatten
from dreamerjax.config.schema import Mode
from dreamerjax.core.console import say
from dreamerjax.core.files import file_faults, write_json
from dreamerjax.core.formatting import number
from dreamerjax.core.machine import process_seconds
from dreamerjax.core.run_directory import read_summary
from dreamerjax.diagnostics.verdict import judge_run, to_go_on
from dreamerjax.envs import Given, solved_return
from dreamerjax.storage.logger import read_metrics
from dreamerjax.training import update_schedule
from dreamerjax.training.outcome import Ending
from dreamerjax.training.run_state import RunState
from dreamerjax.visualization.learning_curve import write_learning_curve


def write_summary(run: RunState, ending: Ending) -> None:
    """summary.json, then the learning curve, unless the run was interrupted at once."""
    counters, directory = run.counters, run.directory
    with file_faults(directory.metrics, "read"):
        records = read_metrics(directory.metrics)
    if run.evaluates and run.config.train.eval_every:
        reference = solved_return(run.config.env.id, run.source)
        findings = [found["name"] for found in run.watch.summary()]
        ending.verdict = judge_run(records, flatten(run.config), findings, counters.baseline_return, reference)
    write_json(
        directory.summary,
        {
            "outcome": ending.outcome,
            "error": None if ending.error is None else f"{type(ending.error).__name__}: {ending.error}",
            "env_steps": run.env_steps,
            "updates": counters.updates,
            "warnings": list(update_schedule.obstacles(run.config)),
            "episodes": run.collector.episodes,
            "seconds": run.seconds,
            "process_seconds": process_seconds(),
            "first_update_seconds": run.stopwatch.first_update,
            "loop_overhead": run.stopwatch.overhead,
            "baseline_return": counters.baseline_return,
            "solved_step": counters.solved_step if run.solved else None,
            "solved_seconds": counters.solved_seconds if run.solved else None,
            "last_return": counters.last_return,
            "last_sampled_return": counters.last_sampled_return,
            "last_step": counters.last_step,
            "best_return": counters.best_return,
            "best_step": counters.best_step,
            **({"verdict": None, "advice": []} if ending.verdict is None else ending.verdict.figures()),
            "findings": run.watch.summary(),
            "replay_steps": len(run.replay),
            "replay_bytes": run.replay.nbytes,
        },
    )
    if isinstance(ending.error, KeyboardInterrupt):  # somebody waits for the end: drawing takes a second or more
        return
    write_learning_curve(
        records,
        directory.media / "learning_curve.png",
        title=f"{run.config.env.id}, {directory.path.name}",
        threshold=run.config.train.stop_at_return,
    )


def brief(path: Path) -> dict[str, str]:
    """What the table that ends a sweep says of a run, from its summary."""
    figures = read_summary(path)
    last, best = (figures.get(f"{which}_return") for which in ("last", "best"))
    return {
        "last return": "" if last is None else number(last),
        "best": "" if best is None else f"{number(best)} at step {figures['best_step']:,}",
        "time": f"{figures.get('seconds', 0.0):,.0f} s",
        "ended": str(figures.get("outcome")),
        "run": path.name,
    }


def say_goodbye(run: RunState, ending: Ending) -> None:
    """Where the run ended, what it reached, and where to look."""
    counters, path = run.counters, run.directory.path
    reached, dream = "no evaluation", ""
    if run.config.mode is Mode.bootstrap:
        reached = "a world model"
        dream = f"  dream:     python -m dreamerjax.train mode=dreamer from={path}\n"
    if counters.last_return is not None and counters.best_return is not None:
        last, best = number(counters.last_return), number(counters.best_return)
        reached = f"evaluation {last}, best {best} at step {counters.best_step}"
    if not counters.updates:
        reached = "nothing was learned"
    verdict = ""
    if ending.verdict is not None and counters.updates:
        verdict = f"  verdict:   {ending.verdict.sentence}\n"
        verdict += "".join(f"  try:       {advice.override} ({advice.reason})\n" for advice in ending.verdict.advice)
    findings = [f"  finding:   {found['name']} at step {found['first_step']}\n" for found in run.watch.summary()]
    further = to_go_on(str(ending.outcome), flatten(run.config))
    evaluate = f"python -m dreamerjax.evaluate run={path} episodes=100"
    resume = f"python -m dreamerjax.train resume={path} {further}".rstrip()
    if isinstance(run.source, Given):
        evaluate = f"Agent.load('{path}', env=env).evaluate(100)"
        section, _, setting = further.replace("null", "None").partition(".")
        resume = f"dreamerjax.learn(env, resume='{path}'{f', {section}=dict({setting})' if setting else ''})"
    say(
        f"{ending.outcome} after {run.env_steps} environment steps, {counters.updates} updates, "
        f"{process_seconds():.0f} s since the process started: {reached}\n"
        f"{verdict}{''.join(findings)}{dream}  evaluate:  {evaluate}\n"
        f"  continue:  {resume}\n"
        f"  report:    python -m dreamerjax.report run={path}\n"
        f"  curve:     {path / 'media' / 'learning_curve.png'}\n"
        f"  metrics:   {path / 'metrics.jsonl'} and TensorBoard events in {path}"
    )
