"""Experiment files: `experiments/<slug>/experiment.yaml`, read and checked. The format is in docs/experiments.md."""

from __future__ import annotations

import datetime
import re
from difflib import get_close_matches
from pathlib import Path

from dreamerjax.core.errors import UserError
from dreamerjax.core.files import write_text
from dreamerjax.experiment import sweep
from dreamerjax.experiment.checks import check_experiment
from dreamerjax.experiment.design import Arm, Budget, Contrast, Experiment, Gate, Hypothesis, Metric, Statistic, Status
from dreamerjax.experiment.reader import Reader, read_yaml

FILE = "experiment.yaml"
KEYS = (
    "question",
    "date",
    "status",
    "hypothesis",
    "metric",
    "rule",
    "gate",
    "factorial",
    "pilot",
    "common",
    "arms",
    "sweep",
    "seeds",
)
_HYPOTHESIS = ("change", "expect", "higher", "by", "treatment", "control", "factor", "against")
_NAME = re.compile(r"[A-Za-z0-9_][\w.-]*", re.ASCII)


def load(slug_or_path: str | Path, root: str | Path = "experiments") -> Experiment:
    """Read and check an experiment, named by its slug under `root`, its directory or its file.

    Raises:
        UserError: there is none, or its file says something that is not valid: the file, the key and what would be valid.
    """
    file = find(slug_or_path, root)
    top = Reader(file, "", read_yaml(file), KEYS)
    metric, hypothesis = _metric(top), top.section("hypothesis", _HYPOTHESIS)
    if ("arms" in top.data) == ("sweep" in top.data):
        raise top.error("arms", "or sweep: one of the two is needed, not both")
    arms = sweep.expand(top.section("sweep", ("grid", "random"))) if "sweep" in top.data else _arms(top)
    rule = top.section("rule", ("confidence",)) if "rule" in top.data else Reader(file, "rule", {}, ())
    experiment = Experiment(
        slug=file.resolve().parent.name,
        directory=file.parent,
        date=_date(top),
        status=top.choice("status", Status, Status.planned),
        question=top.text("question"),
        hypothesis=_hypothesis(hypothesis, arms),
        metric=metric,
        confidence=rule.number("confidence", 0.95),
        gate=top.choice("gate", Gate, Gate.dynamics),
        factorial=top.flag("factorial", False),
        pilot=top.flag("pilot", False),
        common=top.words("common", []),
        arms=arms,
        seeds=top.wholes("seeds"),
    )
    check_experiment(experiment, file)
    return experiment


def find(slug_or_path: str | Path, root: str | Path = "experiments") -> Path:
    """The file of an experiment: see `load`."""
    for candidate in (Path(root) / slug_or_path / FILE, Path(slug_or_path) / FILE, Path(slug_or_path)):
        if candidate.name == FILE and candidate.is_file():
            return candidate
    near = get_close_matches(str(slug_or_path), slugs(root), n=1)
    hint = f"did you mean {near[0]}?" if near else f"there are: {', '.join(slugs(root)) or 'none'}"
    raise UserError(f"no experiment {slug_or_path} under {root}/: {hint}")


def slugs(root: str | Path = "experiments") -> list[str]:
    """The experiments under `root`, by name: its directories that hold an experiment file."""
    return sorted(file.parent.name for file in Path(root).glob(f"*/{FILE}"))


def set_status(path: str | Path, status: Status) -> None:
    """Change the one line `status:` of an experiment, given by its file or directory, and nothing else."""
    file = Path(path) / FILE if Path(path).is_dir() else Path(path)
    text = file.read_text(encoding="utf-8")
    changed, count = re.subn(r"^status:[ \t]*\w*", f"status: {status.name}", text, count=1, flags=re.MULTILINE)
    if not count:
        changed = f"{text.rstrip()}\nstatus: {status.name}\n"
    if changed != text:
        write_text(file, changed)


def changes(path: str | Path, earlier: str | Path) -> list[str]:
    """The top-level keys, `status` aside, whose content differs between two experiment files; added seeds do not count."""
    now, before = read_yaml(Path(path)), read_yaml(Path(earlier))
    differ = [key for key in KEYS if key != "status" and now.get(key) != before.get(key)]
    if "seeds" in differ and set(before["seeds"]) <= set(now["seeds"]):
        differ.remove("seeds")
    return differ


def _date(top: Reader) -> str:
    date = top.text("date")
    try:
        return datetime.date.fromisoformat(date).isoformat()
    except ValueError:
        raise top.error("date", f"must be a date such as 2026-11-25, not {date}") from None


def _metric(top: Reader) -> Metric:
    metric = top.section("metric", ("name", "budget", "at", "statistic", "start"))
    return Metric(
        name=metric.text("name"),
        at=metric.whole("at"),
        budget=metric.choice("budget", Budget, Budget.env_steps),
        statistic=metric.choice("statistic", Statistic, Statistic.last),
        start=metric.whole("start", 0),
    )


def _arms(top: Reader) -> tuple[Arm, ...]:
    section, arms = top.section("arms", None), []
    for name, value in section.data.items():
        if not _NAME.fullmatch(name):
            raise section.error(name, "must be letters, digits, '_', '-' or '.', since it names directories")
        if isinstance(value, dict):
            arm = section.section(name, ("overrides", "script"))
            arms.append(Arm(name, arm.words("overrides", []), arm.text("script", "") or None))
        else:
            arms.append(Arm(name, section.words(name, [])))
    return tuple(arms)


def _hypothesis(section: Reader, arms: tuple[Arm, ...]) -> Hypothesis:
    return Hypothesis(
        change=section.text("change"),
        expect=section.text("expect"),
        higher=section.flag("higher", True),
        by=section.number("by"),
        contrast=_contrast(section, arms),
    )


def _contrast(section: Reader, arms: tuple[Arm, ...]) -> Contrast:
    sides = [key for key in ("treatment", "control", "factor", "against") if key in section.data]
    if sides == ["treatment", "control"]:
        treatment, control = (_chosen(section, key, arms) for key in sides)
        if shared := set(treatment) & set(control):
            raise section.error("treatment", f"and control must not share an arm: {', '.join(sorted(shared))} is on both sides")
        return Contrast(treatment=treatment, control=control)
    if sides != ["factor", "against"]:
        raise section.error("treatment", "and control, or factor and against, must be given: one pair of the two")
    swept = [key for key, _ in arms[0].levels] if arms else []
    factor, against = (section.text(key) for key in sides)
    for key, value in zip(sides, (factor, against), strict=True):
        if value not in swept:
            near = get_close_matches(value, swept, n=1)
            hint = f"did you mean {near[0]}?" if near else f"valid: {', '.join(swept) or 'none, since there is no sweep'}"
            raise section.error(key, f"is not a swept key: {value}; {hint}")
    if factor == against:
        raise section.error("against", f"must be another swept key than factor ({factor})")
    return Contrast(factor=factor, against=against)


def _chosen(section: Reader, key: str, arms: tuple[Arm, ...]) -> tuple[str, ...]:
    """The names of the arms on one side: an arm, a list of arms, or {swept key: value}."""
    names = [arm.name for arm in arms]
    if isinstance(section.get(key), dict):
        levels = section.section(key, None).data
        chosen = tuple(arm.name for arm in arms if all(_same_level(dict(arm.levels).get(k), v) for k, v in levels.items()))
        if not chosen:
            wanted = ", ".join(f"{swept}: {value}" for swept, value in levels.items())
            raise section.error(key, f"selects no arm: no arm of the sweep has {{{wanted}}}")
        return chosen
    given = (section.text(key),) if isinstance(section.get(key), str) else section.words(key)
    for name in given:
        if name not in names:
            near = get_close_matches(name, names, n=1)
            raise section.error(key, f"is not an arm: {name}; " + (f"did you mean {near[0]}?" if near else _list(names)))
    return given


def _same_level(level: str | None, wanted: str) -> bool:
    try:
        return level is not None and (level == wanted or float(level) == float(wanted))
    except (TypeError, ValueError):
        return False


def _list(names: list[str]) -> str:
    return f"arms: {', '.join(names) or 'none'}"
