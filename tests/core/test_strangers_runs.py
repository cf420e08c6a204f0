"""A run that somebody else made brings no code, and leads nowhere: docs/security.md."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from dreamerjax.config.composition import config_from_yaml
from dreamerjax.core.errors import UserError
from dreamerjax.core.run_directory import RunDirectory, run_around
from dreamerjax.envs.factory import find_registration
from dreamerjax.experiment.reader import read_yaml
from dreamerjax.report.media import read_media

TAGS = ("!!python/object/apply:os.mkdir ['{}']", "!!python/name:os.system", "!!python/object/new:os.mkdir ['{}']", "!tag x")


def made(root: Path) -> Path:
    run = RunDirectory.create(root, "theirs", "env:\n  id: CartPole-v1\n", {})
    run.close()
    return run.path


@pytest.mark.parametrize("tag", TAGS)
def test_yaml_constructs_nothing(tag: str, tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text(f"env:\n  id: {tag.format(tmp_path / 'made')}\n")
    with pytest.raises(UserError) as caught:
        config_from_yaml(tmp_path / "config.yaml")
    assert caught.value.exit_code == 2
    read_yaml(tmp_path / "config.yaml")  # experiment files: every scalar is text, whatever its tag
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize(
    "place", ["strange_module.py", "media/strange_module.py", "strange_module/__init__.py", "strange_module/x.py"]
)
def test_a_module_in_a_run_is_not_imported(place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = made(tmp_path)
    file = run / place
    file.parent.mkdir(exist_ok=True)
    file.write_text("raise SystemExit('it ran')\n")
    folder = run / "media" if place.startswith("media") else run
    monkeypatch.syspath_prepend(folder)
    with pytest.raises(UserError, match="lies in the folder of a run"):
        find_registration("strange_module:X-v0")
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "path", ["", *sys.path[1:]])
    with pytest.raises(UserError, match="lies in the folder of a run"):
        find_registration("strange_module:X-v0")


def test_modules_elsewhere_are_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made(tmp_path / "runs")
    (tmp_path / "own_module.py").write_text("import gymnasium as gym\ngym.register('Own-v0', 'own_module:X')\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert find_registration("own_module:Own-v0").id == "Own-v0"
    assert run_around(tmp_path / "own_module.py") is None


@pytest.mark.parametrize("entry", ["media", "checkpoints", "config.yaml", "metrics.jsonl"])
def test_a_link_out_of_a_run_is_refused(entry: str, tmp_path: Path) -> None:
    run = made(tmp_path / "runs")
    target = tmp_path / "elsewhere"
    if (run / entry).is_dir():
        (run / entry).rmdir()
        target.mkdir()
    else:
        target.write_text("")
        (run / entry).unlink(missing_ok=True)
    (run / entry).symlink_to(target)
    with pytest.raises(UserError, match=r"leads out of it|no run at|is not a dreamerjax run"):
        RunDirectory.open(run)


def test_links_to_a_run_and_within_it_are_fine(tmp_path: Path) -> None:
    run = made(tmp_path / "runs")
    (tmp_path / "link").symlink_to(tmp_path / "runs")
    (run / "again").symlink_to(run / "media")
    assert RunDirectory.open(tmp_path / "link" / run.name).path.samefile(run)


def test_a_picture_that_is_a_link_is_not_shown(tmp_path: Path) -> None:
    (tmp_path / "secret.png").write_bytes(b"secret")
    media = tmp_path / "media"
    media.mkdir()
    (media / "a.png").symlink_to(tmp_path / "secret.png")
    (file,) = read_media(media)
    assert (file.content, file.fault) == (None, "a link that leads out of the run")
