"""Experiment files: `experiments/<slug>/experiment.yaml`, read and checked. The format is in docs/experiments.md."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import fields
from datetime import date
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined

from dreamerjax.core.errors import UserError
from dreamerjax.core.files import file_faults, write_text
from dreamerjax.experiment import sweep
from dreamerjax.experiment.checks import check_experiment
from dreamerjax.experiment.design import RULE, Arm, Contrast, Experiment, Hypothesis, Status
from dreamerjax.experiment.reader import Section, did_you_mean, read_yaml

FILE = "experiment.yaml"
TEMPLATES = Environment(
    loader=PackageLoader("dreamerjax.experiment"),
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
    keep_trailing_newline=True,
)
KEYS = (*[field.name for field in fields(Experiment)][2:-1], "sweep", "seeds")
_HYPOTHESIS = [field.name for kind in (Hypothesis, Contrast) for field in fields(kind) if field.name != "contrast"]
_NAME = re.compile(r"[A-Za-z0-9_][\w.-]*", re.ASCII)
QUESTION = "Does a larger entropy bonus make CartPole-v1 learn faster?"


def load(slug_or_path: str | Path, root: str | Path = "experiments") -> Experiment:
    """Read and check an experiment, named by its slug under `root`, its directory or its file.

    Raises UserError: there is none, or its file says something that is not valid: the file, the key and what would be valid.
    """
    file = find(slug_or_path, root)
    top = Section(file, "", read_yaml(file), KEYS)
    if ("arms" in top.data) == ("sweep" in top.data):
        raise top.error("arms", "or sweep: one of the two is needed, not both")
    arms = sweep.expand(top.section("sweep", ("grid", "random"))) if "sweep" in top.data else _arms(top)
    sides = top.section("hypothesis", _HYPOTHESIS)
    hypothesis = sides.build(Hypothesis, higher=sides.read("higher", bool, True), contrast=_contrast(sides, arms))
    place = {"slug": file.resolve().parent.name, "directory": file.parent}
    experiment = top.build(Experiment, **place, hypothesis=hypothesis, arms=arms)
    check_experiment(experiment, file)
    return experiment


def write_new(slug: str, root: Path, question: str = QUESTION) -> Path:
    """Write a new experiment file, commented and valid as it is; returns it.

    Raises UserError: the name does not name a directory, or is taken; the file cannot be written.
    """
    if not _NAME.fullmatch(slug):
        raise UserError(f"{slug!r} cannot be an experiment's name: letters, digits, '_', '-' and '.' only")
    file = root / slug / FILE
    if file.exists():
        raise UserError(f"{file} exists already")
    with file_faults(file):
        file.parent.mkdir(parents=True, exist_ok=True)
    template = TEMPLATES.get_template("experiment.yaml.j2")
    write_text(file, template.render(question=" ".join(question.split()), date=date.today(), rule=RULE))
    return file


def find(slug_or_path: str | Path, root: str | Path = "experiments") -> Path:
    """The file of an experiment: see `load`."""
    for candidate in (Path(root) / slug_or_path / FILE, Path(slug_or_path) / FILE, Path(slug_or_path)):
        if candidate.name == FILE and os.path.isfile(candidate):
            return candidate
    hint = did_you_mean(str(slug_or_path), slugs(root), f"there are: {', '.join(slugs(root)) or 'none'}")
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


def _arms(top: Section) -> tuple[Arm, ...]:
    section, arms = top.section("arms", None), []
    for name, value in section.data.items():
        if not _NAME.fullmatch(name):
            raise section.error(name, "must be letters, digits, '_', '-' or '.', since it names directories")
        if isinstance(value, dict):
            keys = section.section(name, ("overrides", "script"))
            arms.append(Arm(name, keys.read("overrides", tuple[str, ...], ()), keys.read("script", str, None)))
        else:
            arms.append(Arm(name, section.read(name, tuple[str, ...], ())))
    return tuple(arms)


def _contrast(section: Section, arms: Sequence[Arm]) -> Contrast:
    sides = [field.name for field in fields(Contrast) if field.name in section.data]
    if sides == ["treatment", "control"]:
        treatment, control = (_chosen(section, key, arms) for key in sides)
        if shared := set(treatment) & set(control):
            raise section.error("treatment", f"and control must not share an arm: {', '.join(sorted(shared))} is on both sides")
        return Contrast(treatment=treatment, control=control)
    if sides != ["factor", "against"]:
        raise section.error("treatment", "and control, or factor and against, must be given: one pair of the two")
    swept = [key for key, _ in arms[0].levels] if arms else []
    factor, against = (section.read(key, str) for key in sides)
    for key, value in zip(sides, (factor, against), strict=True):
        if value not in swept:
            hint = did_you_mean(value, swept, f"valid: {', '.join(swept) or 'none, since there is no sweep'}")
            raise section.error(key, f"is not a swept key: {value}; {hint}")
    if factor == against:
        raise section.error("against", f"must be another swept key than factor ({factor})")
    return Contrast(factor=factor, against=against)


def _chosen(section: Section, key: str, arms: Sequence[Arm]) -> tuple[str, ...]:
    """The names of the arms on one side: an arm, a list of arms, or {swept key: value}."""
    names, given = [arm.name for arm in arms], section.get(key)
    if isinstance(given, dict):
        chosen = tuple(arm.name for arm in arms if all(_same_level(dict(arm.levels).get(k), v) for k, v in given.items()))
        if not chosen:
            wanted = ", ".join(f"{swept}: {value}" for swept, value in given.items())
            raise section.error(key, f"selects no arm: no arm of the sweep has {{{wanted}}}")
        return chosen
    side: tuple[str, ...] = (section.read(key, str),) if isinstance(given, str) else section.read(key, tuple[str, ...])
    for name in side:
        if name not in names:
            hint = did_you_mean(name, names, f"arms: {', '.join(names) or 'none'}")
            raise section.error(key, f"is not an arm: {name}; {hint}")
    return side


def _same_level(level: str | None, wanted: str) -> bool:
    try:
        return level is not None and (level == wanted or float(level) == float(wanted))
    except (TypeError, ValueError):
        return False
