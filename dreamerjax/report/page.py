"""The page about a run: what its templates need, which hold all of its HTML."""

from __future__ import annotations

import shlex
from base64 import b64encode
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from dreamerjax.config.flat import flatten
from dreamerjax.config.schema import Config
from dreamerjax.core.formatting import NOT_KNOWN, amount, at_step, duration, moment, whole
from dreamerjax.report import charts
from dreamerjax.report.glossary import Glossary
from dreamerjax.report.media import LIMITS, MediaFile
from dreamerjax.report.reading import RunReading
from dreamerjax.storage.checkpoints import saved_in
from dreamerjax.visualization import style
from dreamerjax.visualization.learning_curve import series

TEMPLATES = Environment(
    loader=PackageLoader("dreamerjax.report"), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
)
TEMPLATES.filters |= {shown.__name__: shown for shown in (amount, whole, at_step, duration, moment, shlex.quote)}
TEMPLATES.globals["colors"] = style.COLORS
TEMPLATES.filters["sentence"] = lambda words: f"{words[:1].upper()}{words[1:]}."
TEMPLATES.filters["base64"] = lambda content: b64encode(content).decode()

COLUMNS = {  # of the table of examinations: metrics under gap/, and their heads
    "states": "states",
    "return_imagined": "imagined return",
    "return_real": "real return",
    "return_bias": "bias",
    "return_ratio": "ratio",
    "return_error": "mean error",
    "return_rank": "rank correlation",
    "bootstrap": "critic's weight",
    "worst_step": "worst step k",
    "reward_bias": "reward bias there",
    "continue_bias": "continue bias there",
    "kl": "KL, nats",
    "open_loop_error": "open loop, std",
    "open_loop_image_error": "open loop of images",
}
_BY_STEP = ("reward_bias", "continue_bias")  # metrics for each imagined step; the table has the worst one


def render(run: RunReading, media: list[MediaFile], glossary: Glossary) -> str:
    """The whole page, with pictures and videos of the run; `glossary` says what metrics and findings mean."""
    examinations = list(_examinations(run))
    returns = any(key.startswith(("eval/", "episode/return")) for record in run.records for key in record)
    columns = {name: head for name, head in COLUMNS.items() if any(row[name] is not None for _, row in examinations)}
    return TEMPLATES.get_template("page.html.j2").render(
        run=run,
        now=datetime.now().astimezone(),
        NOT_KNOWN=NOT_KNOWN,
        primary=series(run.records, str(run.meta.get("primary_metric"))),
        curve=charts.learning_curve(run.records, run.config.get("train.stop_at_return")) if returns else None,
        findings=[(found, glossary.findings.get(str(found.get("name")), ("", ""))) for found in run.findings],
        panels=[
            (panel, svg, glossary.of({name: name for name in panel.all_metrics}))
            for panel in charts.PANELS
            if (svg := charts.draw_panel(panel, run.records)) is not None
        ],
        columns=columns,
        examinations=examinations,
        column_meanings=glossary.of({f"gap/{name}{'/01' * (name in _BY_STEP)}": head for name, head in columns.items()}),
        media=media,
        media_limits=LIMITS,
        changed=_changed(run.config),
        checkpoints={store: saved_in(run.directory.checkpoints / store) for store in ("latest", "best")},
    )


def _examinations(run: RunReading) -> Iterator[tuple[str, dict[str, Any]]]:
    """Where dreams were compared with reality, and the number of every column, or none."""
    for record in run.records:
        if "gap/return_imagined" in record:
            yield whole(record["env_step"]), _row(record, "gap/")
    for name, evaluation in run.evaluations.items():
        if isinstance(gap := evaluation.get("gap"), dict):
            yield f"{whole(evaluation.get('env_step'))} ({name})", _row(gap, "")


def _row(numbers: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    worst = numbers.get(f"{prefix}worst_step")
    there = f"/{worst:02.0f}" if isinstance(worst, int | float) else ""
    return {name: numbers.get(prefix + name + there * (name in _BY_STEP)) for name in COLUMNS}


def _changed(config: dict[str, Any]) -> list[tuple[str, Any, Any]]:
    """Keys whose values are not the defaults, with both."""
    defaults = flatten(Config())
    return [
        (key, value, defaults.get(key, "no such key in this version"))
        for key, value in config.items()
        if (key not in defaults or defaults[key] != value) and key != "run.hypothesis"
    ]
