"""The report of a run that was really trained, while it is trained and afterwards."""

from __future__ import annotations

from pathlib import Path

from dreamerjax.core.run_directory import RunDirectory
from tests.e2e import trials
from tests.report.test_report import written


def test_a_report_changes_nothing_else(copy: Path) -> None:
    before = trials.content(copy)
    page = written(copy)
    assert "finished at step 120" in page.text
    assert f"python -m dreamerjax.train resume={copy}" in page.text
    assert "To be aware of" not in page.text
    assert page.sources.count("image/svg+xml") > 10
    trainer = RunDirectory.open(copy, lock=True)
    assert "in progress, at step 120" in written(copy).text
    trainer.close()
    after = trials.content(copy)
    assert after.pop("report.html")
    assert after == before
