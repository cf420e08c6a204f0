"""The report of a run: one valid page that needs no other file, whatever the run is or lacks."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dreamerjax.config.cli import main
from dreamerjax.config.composition import config_to_yaml, load_config
from dreamerjax.core.files import write_json
from dreamerjax.core.formatting import duration, moment
from dreamerjax.core.run_directory import KIND, RunDirectory
from dreamerjax.diagnostics.collapse import GATES, CollapseWatch
from dreamerjax.report import __main__, media
from dreamerjax.report.charts import PANELS, draw_panel, learning_curve, thinned
from dreamerjax.report.glossary import Glossary, metrics_page, read_glossary
from dreamerjax.report.reading import read_directory
from dreamerjax.visualization.calibration_figures import write_calibration
from tests.experiment.fakes import fake_run, watch_settings
from tests.visualization.test_calibration_figures import examination
from tests.visualization.test_learning_curve import learning

VOID = {"meta", "img"}
GREEDY = "eval/greedy/return_mean"


class Page(HTMLParser):
    """A page that is refused where an element is not closed, or where it would fetch anything."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.sources: list[str] = []
        self.text = ""
        self.feed(path.read_text(encoding="utf-8"))
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag not in ("script", "link", "iframe", "object", "base")
        self.tags.append(tag)
        names = [name for name, _ in attrs]
        assert len(names) == len(set(names))
        for name, value in attrs:
            assert not name.startswith("on")
            if name in ("src", "href", "srcset", "poster", "style"):
                assert name == "src"
                assert value is not None
                assert value.startswith("data:")
                self.sources.append(value.partition(";")[0].removeprefix("data:"))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] == "style":
            assert not any(word in data for word in ("url(", "@import", "http"))
        else:
            self.text += f"{data} "


def report_here(*arguments: str) -> int:
    """The command in this process."""
    return main(__main__.run, list(arguments), schema=__main__.ReportConfig)


def written(run: Path) -> Page:
    """The page about a run."""
    assert report_here(f"run={run}") == 0
    return Page(run / "report.html")


def trained(records: int = 40) -> list[dict[str, float]]:
    """Training logs and evaluations of a run that was good at step 2,000 and not at step 3,000, while values rose."""
    logs = []
    for step in range(100, 100 * records + 1, 100):
        values = {"dream/value_mean": step / 50, "model/kl": 0.3, "loss/dynamics": 0.3, "gradient_norm/actor": 0.0}
        logs.append({"env_step": step, **values})
    greedy = {1000: 100.0, 1500: 400.0, 2000: 400.0, 3000: 90.0}
    logs += [
        {"env_step": step, GREEDY: value, "eval/sampled/return_mean": value - 1}
        for step, value in greedy.items()
        if step <= 3000
    ]
    logs.append({"env_step": 10, "baseline/return_mean": 20.0})
    return sorted(logs, key=lambda record: record["env_step"])


SUMMARY: Mapping[str, Any] = {
    "outcome": "finished",
    "error": None,
    "env_steps": 4000,
    "updates": 1000,
    "episodes": 77,
    "seconds": 3723.4,
    "baseline_return": 20.0,
    "solved_step": None,
    "last_return": 90.0,
    "last_sampled_return": 89.0,
    "last_step": 3000,
    "best_return": 400.0,
    "best_step": 1500,
    "findings": [
        {
            "name": "evaluation_falls_while_values_rise",
            "first_step": 3000,
            "last_step": 3000,
            "times": 1,
            "evidence": "greedy evaluation fell from 400.0 (step 2,000) to 90.0",
            "active": True,
        }
    ],
}


def whole_run(path: Path, **summary: Any) -> Path:
    """A run directory with everything in it."""
    meta = {"hypothesis": "it learns", "primary_metric": GREEDY, "started": "2026-01-31T23:59:58+00:00", "cpus": 2, "name": "a"}
    run = fake_run(path, [*trained(), *learning(3_000)], meta=meta, summary={**SUMMARY, **summary})
    config = load_config(["+experiment=cartpole", "optim.actor_lr=1e-5", "train.seed=3", "run.hypothesis=it learns"])
    (run / "config.yaml").write_text(config_to_yaml(config))
    for store in ("latest", "best"):
        (run / "checkpoints" / store / "save_000007").mkdir(parents=True)
    (run / "media").mkdir()
    return run


def test_a_whole_run(tmp_path: Path) -> None:
    run = whole_run(tmp_path / "2026-01-31_235958_a")
    write_calibration(examination(), run / "media", 2_000, "earlier")
    write_calibration(examination(), run / "media", 4_000, "later")
    (run / "media" / "play.mp4").write_bytes(b"video")
    (run / "media" / "play.gif").write_bytes(b"GIF89a")
    gap = {"gap/return_imagined": 55.5, "gap/return_real": 44.25, "gap/worst_step": 2, "gap/reward_bias/02": -0.125}
    with (run / "metrics.jsonl").open("a") as file:
        file.write(json.dumps({"env_step": 4_000, "update": 1_000, **gap}) + "\n")
    evaluation = {"checkpoint": "best", "env_step": 1_500, "policy": "greedy", "episodes": 100, "return_mean": 398.5}
    write_json(run / "evaluation_best_greedy.json", {**evaluation, "return_mean_95": [390.25, 402.0], "gap": {"kl": 0.0625}})
    page = written(run)
    words = " ".join(page.text.split())
    for text in (
        "2026-01-31_235958_a",
        "finished at step 4,000",
        "CartPole-v1",
        "2026-01-31 23:59:58 +0000",
        "1 h 02 min",
        "90 at step 3,000",
        "400 at step 1,500",
        "it learns",
        "398.5 [390.2, 402]",
        "Greedy evaluation fell from 400.0 (step 2,000) to 90.0.",
        "the actor exploits the model's optimism",
        "it still lasted at the end",
        "lambda returns of dreams, and the critic's opinion",
        "55.5 44.25",
        "-0.125",
        "1,500 (evaluation_best_greedy.json)",
        "0.0625",
        "Pictures of step 2,000",
        "up to 8 MiB each and 48 MiB together",
        "python 3.11, jax 0.10",
        f"python -m dreamerjax.evaluate run={run} episodes=100",
        f"python -m dreamerjax.train resume={run} train.steps=",
        f"{run}/checkpoints/best/save_000007",
        f"{run}/metrics.jsonl",
    ):
        assert text in words, text
    assert "To be aware of" not in page.text
    assert page.sources.count("image/png") == 4
    assert {"video/mp4", "image/gif", "image/svg+xml"} <= set(page.sources)


def test_a_run_that_sees_images_alone(tmp_path: Path) -> None:
    run = whole_run(tmp_path / "run")
    write_calibration(examination(sizes=(), image=(16, 32, 3)), run / "media", 4_000, "images")
    gap = {"gap/return_imagined": 55.5, "gap/open_loop_image_error": 0.375}
    with (run / "metrics.jsonl").open("a") as file:
        file.write(json.dumps({"env_step": 4_000, "update": 1_000, **gap}) + "\n")
    page = written(run)
    words = " ".join(page.text.split())
    assert "environment step imagined return open loop of images 4,000 55.5 0.375" in words
    assert "the same for images" in words
    assert "open_loop_images_000004000.png" in words
    assert page.sources.count("image/png") == 2


def test_the_verdict_comes_before_the_figures(tmp_path: Path) -> None:
    """That of the summary, or else one from the metrics."""
    said = {"verdict": "solved: 500", "advice": [{"override": "optim.actor_lr=1e-4", "reason": "it <falls>"}]}
    run = fake_run(tmp_path / "run", trained(), summary={**SUMMARY, **said})
    words = " ".join(written(run).text.split())
    assert words.index("Solved: 500. Try optim.actor_lr=1e-4 : it <falls>.") < words.index("The run in figures")
    words = " ".join(written(fake_run(tmp_path / "older", trained(), summary=SUMMARY)).text.split())
    assert words.index("90 [90, 90] in the last evaluation") < words.index("The run in figures")


def test_settings_that_a_resume_changed_are_named_and_marked(tmp_path: Path) -> None:
    change = {"env_step": 1_200, "update": 300, "key": "optim.actor_lr", "from": "0.0004", "to": "<b>0.0002</b>"}
    marked = [*trained(), {"env_step": 1_200, "resume/changed_settings": 1.0}]
    page = written(fake_run(tmp_path / "run", marked, meta={"changes": [change]}, summary=SUMMARY))
    words = " ".join(page.text.split())
    assert "from step key before after 1,200 optim.actor_lr 0.0004 <b>0.0002</b>" in words
    unmarked = written(fake_run(tmp_path / "other", trained(), summary=SUMMARY))
    assert "Changed on a resume" not in unmarked.text
    assert learning_curve(marked, None) != learning_curve(trained(), None)


def test_what_differs_from_the_defaults_comes_first(tmp_path: Path) -> None:
    text = " ".join(written(whole_run(tmp_path / "run")).text.split())
    changes, every = text[text.index("key this run default") :].split("config.yaml, every key")
    assert "optim.actor_lr 1e-05 0.0004" in changes
    assert "train.stop_at_return 475.0 None" in changes
    assert "optim.critic_lr" not in changes
    assert "critic_lr: 0.0004" in every


@pytest.mark.parametrize(
    ("summary", "words"),
    [
        ({"outcome": "solved", "solved_step": 1500}, "solved at step 1,500"),
        ({"outcome": "stopped"}, "stopped by a KL spike at step 4,000"),
        ({"outcome": "interrupted"}, "interrupted at step 4,000"),
        ({"outcome": "failed", "error": "UserError: the disk is full"}, "failed at step 4,000 UserError: the disk is full"),
        ({"outcome": "finished", "solved_step": 1500}, "finished at step 4,000; solved at step 1,500"),
    ],
)
def test_outcomes(tmp_path: Path, summary: dict[str, Any], words: str) -> None:
    run = fake_run(tmp_path / "run", trained(), summary={**SUMMARY, **summary})
    assert words in " ".join(written(run).text.split())


def test_a_return_that_a_resume_lowered_solves_from_there_on(tmp_path: Path) -> None:
    changes = [{"env_step": 3_500, "update": 875, "key": "train.stop_at_return", "from": "475", "to": "300"}]
    run = whole_run(tmp_path / "run", outcome="solved")
    meta = json.loads((run / "meta.json").read_text())
    (run / "meta.json").write_text(json.dumps({**meta, "changes": changes}))
    config = load_config(["+experiment=cartpole", "train.stop_at_return=300"])
    (run / "config.yaml").write_text(config_to_yaml(config))
    assert read_directory(RunDirectory.open(run)).ending == "solved at step 3,500"


def test_a_run_in_progress_is_told_by_its_lock(tmp_path: Path) -> None:
    run = fake_run(tmp_path / "run", trained())
    directory = RunDirectory.open(run, lock=True)
    text = written(run).text
    assert "in progress, at step 4,000" in text
    assert "400 at step 1,500" in text  # from the metrics: there is no summary yet
    assert "evaluation_falls_while_values_rise" in text  # the collapse watch reads them again
    directory.close()
    text = written(run).text
    assert "killed after step 4,000" in text
    assert "the run was killed before it could say how it ended" in text


def test_a_run_that_went_on_after_its_summary_and_was_killed(tmp_path: Path) -> None:
    run = fake_run(tmp_path / "run", trained(), summary={**SUMMARY, "env_steps": 2000, "last_return": 400.0})
    text = written(run).text
    assert "killed after step 4,000" in text
    assert "summary.json is of an earlier end, at step 2,000" in text
    assert "90 at step 3,000" in text


def _damage(run: Path) -> None:
    lines = (run / "metrics.jsonl").read_text().splitlines()
    bad = ['{"env_step": 5, "upd', "[]", '{"env_step": 5}', '{"env_step": "NaN", "update": 1}', "\0\0", '{"a": [1]}']
    (run / "metrics.jsonl").write_text("\n".join([*lines[:3], *bad, *lines[3:], '{"env']))


def _remove(name: str) -> Callable[[Path], object]:
    return lambda run: (run / name).unlink()


def _write(name: str, text: str) -> Callable[[Path], object]:
    return lambda run: (run / name).write_text(text)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (_damage, "metrics.jsonl is damaged in line 4, 5, 6, 7, 8, ... (6 in all)"),
        (_remove("metrics.jsonl"), "There are no metrics: metrics.jsonl cannot be read (No such file or directory)"),
        (_write("metrics.jsonl", ""), "There are no metrics: metrics.jsonl has no line yet that can be read"),
        (
            _write("metrics.jsonl", '{"env_step": 8, "update": 0, "episode/return": 9}\n'),
            "There is no evaluation in the metrics so far",
        ),
        (_write("metrics.jsonl", '{"env_step": 8, "update": 0, "loss/actor": "NaN"}\n'), "None logged so far"),
        (_write("summary.json", '{"outcome": "fin'), "summary.json is missing or cannot be read"),
        (_write("config.yaml", "a: [1"), "config.yaml cannot be read"),
        (_write("summary.json", '{"outcome": "finished", "env_steps": null, "findings": [3]}'), "of an earlier end, at step 0"),
        (_write("meta.json", f'{{"kind": "{KIND}", "git": 1, "source": "x", "devices": 2.5}}'), "not known"),
        (_write("config.yaml", "- 1"), "config.yaml is no mapping"),
        (_write("config.yaml", "[" * 5_000), "config.yaml cannot be read"),
        (_write("config.yaml", "started: 2026-99-99"), "config.yaml cannot be read"),
        (_write("config.yaml", "train: {stop_at_return: much}"), "config.yaml has no number as train.stop_at_return: much"),
        (_write("config.yaml", "of: {another: version}"), "no such key in this version"),
        (_write("evaluation_latest_greedy.json", "{}"), "evaluation_latest_greedy.json"),
        (lambda run: (run / "media").rmdir(), "No examination so far"),
    ],
)
def test_what_is_missing_is_said(tmp_path: Path, change: Callable[[Path], object], words: str) -> None:
    run = whole_run(tmp_path / "run")
    change(run)
    assert words in written(run).text


def test_without_a_checkpoint(tmp_path: Path) -> None:
    text = written(fake_run(tmp_path / "run", trained(), summary=SUMMARY)).text
    assert "Without a checkpoint it cannot be evaluated or continued." in text
    assert "resume=" not in text


def test_values_of_a_run_are_text_and_not_html(tmp_path: Path) -> None:
    hostile = '"><script>alert(1)</script>&amp;'
    meta = {"hypothesis": hostile, "primary_metric": hostile, "platform": hostile, "command": hostile, "started": hostile}
    finding = {**SUMMARY["findings"][0], "name": hostile, "evidence": hostile}
    summary = {**SUMMARY, "outcome": "failed", "error": hostile, "findings": [finding]}
    config = {"env": {"id": hostile}, hostile: 1, "mode": "bootstrap"}
    run = fake_run(tmp_path / 'a"<b>&c', [*trained(), *learning()], meta=meta, summary=summary, config=config)
    (run / "checkpoints" / "latest" / "save_000001").mkdir(parents=True)
    page = written(run)
    assert page.text.count(hostile) >= 8
    assert 'a"<b>&c' in page.text


def test_no_script_of_a_run_becomes_one_of_the_page(tmp_path: Path) -> None:
    script = "<script>alert(1)<"
    run = whole_run(tmp_path / script)
    (run / "media" / f"{script}.png").write_bytes(b"")
    (run / "media" / f"{script}.mp4").mkdir()
    write_json(run / f"evaluation_{script}.json", {"checkpoint": script, "policy": script, "gap": {"kl": script}})
    meta = json.loads((run / "meta.json").read_text())
    texts = {"hypothesis": script, "devices": [script], "versions": {script: script}, "git": {"commit": script}}
    write_json(run / "meta.json", {**meta, **texts, "source": {"run": script, "env_step": script}})
    page = written(run)
    assert page.text.count(script) >= 14
    assert f"{script}.mp4  cannot be read: Is a directory" in page.text
    assert "<script" not in (run / "report.html").read_text()


def test_large_files_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = whole_run(tmp_path / "run")
    for step in (1_000, 2_000, 3_000):
        (run / "media" / f"dream_reality_{step:09d}.png").write_bytes(b"x" * 100)
    (run / "media" / "large.mp4").write_bytes(b"x" * 200)
    monkeypatch.setattr(media, "LARGEST", 150)
    monkeypatch.setattr(media, "LARGEST_SUM", 250)
    page = written(run)
    assert page.sources.count("image/png") == 2
    assert "video" not in page.tags
    assert f"{run}/media/dream_reality_000001000.png" in page.text  # the oldest is the one left out
    assert f"{run}/media/large.mp4" in page.text


def test_where_it_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    run = fake_run(tmp_path / "runs" / "2026-01-02_030405_a", trained(), summary=SUMMARY)
    monkeypatch.chdir(tmp_path)
    for arguments, path in (
        ([f"run={run}"], run / "report.html"),
        (["run=latest"], Path("runs") / run.name / "report.html"),
        ([f"run={run.name}"], Path("runs") / run.name / "report.html"),
        (["run=latest", f"root={run.parent}", "output=page.html"], Path("page.html")),
    ):
        path.unlink(missing_ok=True)
        assert report_here(*arguments) == 0
        assert capsys.readouterr().out == f"{path}\n"
        assert Page(path).text


@pytest.mark.parametrize(
    ("arguments", "message", "code"),
    [
        (["run=nowhere"], "no run at nowhere", 2),
        (["run=EMPTY"], "is not a dreamerjax run", 2),
        (["run=latest", "root=EMPTY"], "no run under", 2),
        ([], "run is required", 2),
        (["run=RUN", "ouput=x"], "unknown key ouput; did you mean output?", 2),
        (["run=RUN", "output=EMPTY/missing/page.html"], "cannot write", 1),
    ],
)
def test_mistakes_are_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str, code: int
) -> None:
    run = fake_run(tmp_path / "run", trained())
    (tmp_path / "empty").mkdir()
    words = [argument.replace("RUN", str(run)).replace("EMPTY", str(tmp_path / "empty")) for argument in arguments]
    assert report_here(*words) == code
    err = capsys.readouterr().err
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert message in err


def test_every_metric_and_finding_is_explained_once_in_the_documentation() -> None:
    glossary = read_glossary(metrics_page())
    for panel in PANELS:
        for name in panel.all_metrics:
            assert glossary.metric(name) is not None, name
    watch = CollapseWatch(watch_settings(0.1, gates=GATES))
    assert glossary.findings.keys() == {case.name for case in watch._cases}
    assert all(means and advice for means, advice in glossary.findings.values())
    assert read_glossary(Path(os.devnull)) == read_glossary(Path("missing.md")) == Glossary()


def test_thinning_keeps_the_peaks() -> None:
    values = np.zeros(10_000)
    values[[0, 5_000, 9_999]] = [3.0, -7.0, 9.0]
    steps, kept = thinned(np.arange(10_000.0), values, most=100)
    assert len(steps) == 100
    assert (np.diff(steps) >= 0).all()
    assert {3.0, -7.0, 9.0} <= set(kept)
    assert len(thinned(np.arange(5.0), np.arange(5.0), most=5)[0]) == 5


def test_panels() -> None:
    records = trained()
    drawn = {panel.title: draw_panel(panel, records) for panel in PANELS}
    assert {title for title, svg in drawn.items() if svg is not None} == {
        "Values and returns",
        "KL and what dynamics learn from it",
        "Gradient norms",  # all of them 0, so on a linear axis
    }
    assert all(draw_panel(panel, records) == drawn[panel.title] for panel in PANELS)
    pacing = next(panel for panel in PANELS if panel.title == "Pacing")
    constant = [{"env_step": step, "pacing/model": 1.0} for step in (1.0, 2.0)]
    assert draw_panel(pacing, constant) is None
    assert draw_panel(pacing, [*constant, {"env_step": 3.0, "pacing/model": 0.5}]) is not None


@pytest.mark.parametrize(
    ("seconds", "words"), [(34.4, "34 s"), (90, "1 min 30 s"), (7_380, "2 h 03 min"), ("NaN", "not known"), (None, "not known")]
)
def test_durations(seconds: Any, words: str) -> None:
    assert duration(seconds) == words


def test_moments() -> None:
    assert moment("2026-11-25T23:39:55+02:00") == "2026-11-25 23:39:55 +0200"
    assert moment(None) == moment("once") == "not known"
