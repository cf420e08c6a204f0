"""The package as installed: a wheel that finds its configs, a light import, documentation that names what exists."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import jax
import pytest
from packaging.requirements import Requirement

import dreamerjax

ROOT = Path(__file__).parent.parent


def run(*arguments: str, cwd: Path, path: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(path)}
    return subprocess.run([sys.executable, *arguments], cwd=cwd, env=environment, capture_output=True, text=True)


def test_an_installed_wheel_finds_its_files_trains_and_reports(tmp_path: Path) -> None:
    built = run("-m", "build", "--wheel", "--no-isolation", "--outdir", str(tmp_path), str(ROOT), cwd=tmp_path, path=ROOT)
    assert built.returncode == 0, built.stderr
    (wheel,) = tmp_path.glob("dreamerjax-*.whl")
    site = tmp_path / "site"
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    pip = ["-m", "pip", "--disable-pip-version-check", "install", "--quiet", "--no-deps", "--no-index", "--no-compile"]
    installed = run(*pip, "--target", str(site), str(wheel), cwd=tmp_path, path=ROOT)
    assert installed.returncode == 0, installed.stderr
    packaged = {name.removeprefix("dreamerjax/_configs/") for name in names if name.startswith("dreamerjax/_configs/")}
    assert packaged == {str(path.relative_to(ROOT / "configs")) for path in (ROOT / "configs").rglob("*.yaml")}
    assert "dreamerjax/py.typed" in names
    laboratory = ("experiment.yaml.j2", "report.md.j2")
    assert names >= {f"dreamerjax/experiment/templates/{template}" for template in laboratory}
    assert "dreamerjax/zoo/cartpole/config.yaml" in names
    program = (
        "from dreamerjax.config.composition import config_directory, load_config;"
        "print(config_directory(), load_config(['experiment=cartpole']).run.name)"
    )
    loaded = run("-c", program, cwd=tmp_path, path=site)
    assert loaded.stdout == f"{site / 'dreamerjax' / '_configs'} cartpole\n", loaded.stderr
    program = (
        "from dreamerjax.report.glossary import metrics_page, read_glossary; from dreamerjax.report.page import TEMPLATES;"
        "print(metrics_page(), 'kl_spike' in read_glossary(metrics_page()).findings, *TEMPLATES.list_templates())"
    )
    loaded = run("-c", program, cwd=tmp_path, path=site)
    templates = "compare.html.j2 head.html.j2 macros.html.j2 page.html.j2 style.css"
    assert loaded.stdout == f"{site / 'dreamerjax' / '_docs' / 'metrics.md'} True {templates}\n", loaded.stderr
    listed = run(str(site / "bin" / "dreamerjax"), "--help", cwd=tmp_path, path=site)
    assert "dreamerjax compare" in listed.stdout, listed.stderr
    few = ["train.steps=40", "train.random_steps=40", "size=tiny", "env.num_envs=2"]
    trained = run(str(site / "bin" / "dreamerjax"), "train", *few, cwd=tmp_path, path=site)
    assert "finished after 40 environment steps" in trained.stdout, trained.stderr
    reported = run(str(site / "bin" / "dreamerjax"), "report", "run=latest", cwd=tmp_path, path=site)
    assert reported.returncode == 0, reported.stderr
    assert (tmp_path / reported.stdout.strip()).is_file()


def test_configuration_starts_without_jax(tmp_path: Path) -> None:
    program = (
        "import sys, dreamerjax, dreamerjax.config.cli; dreamerjax.config.cli.load_config();"
        "print([name for name in ('jax', 'flax', 'gymnasium', 'orbax', 'matplotlib') if name in sys.modules])"
    )
    assert run("-c", program, cwd=tmp_path, path=ROOT).stdout == "[]\n"


def test_what_needs_no_jax_does_not_import_it(tmp_path: Path) -> None:
    """One after the other in one process: what any of them imports would show."""
    unneeded = {
        "check_env": ("jax", "flax", "matplotlib"),
        "report": ("jax", "flax", "orbax"),
        "compare": ("jax", "flax", "orbax"),
    }
    program = "import sys\n" + "".join(
        f"import dreamerjax.{module}; print([name for name in {names} if name in sys.modules])\n"
        for module, names in unneeded.items()
    )
    assert run("-c", program, cwd=tmp_path, path=ROOT).stdout == "[]\n" * 3


def test_training_never_imports_the_laboratory(tmp_path: Path) -> None:
    program = "import sys, dreamerjax.train; print([name for name in sys.modules if name.startswith('dreamerjax.experiment')])"
    assert run("-c", program, cwd=tmp_path, path=ROOT).stdout == "[]\n"


def test_attributes() -> None:
    assert dreamerjax.__version__.count(".") == 2
    assert dreamerjax.Agent.__name__ == "Agent"
    with pytest.raises(AttributeError, match="has no attribute 'Agnt'"):
        _ = dreamerjax.Agnt


def supported_pythons() -> list[str]:
    classifiers = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["classifiers"]
    return [version for entry in classifiers if "." in (version := entry.rpartition(" :: ")[2])]


@pytest.mark.parametrize("python", supported_pythons())
def test_pins_meet_the_dependencies_and_name_no_host(python: str) -> None:
    lock = (ROOT / "requirements" / "lock.txt").read_text()
    here = {"python_version": python, "python_full_version": f"{python}.0"}
    pins = [pin for line in lock.splitlines() if not (pin := Requirement(line)).marker or pin.marker.evaluate(here)]
    pinned = {pin.name: str(pin.specifier).removeprefix("==") for pin in pins}
    assert len(pinned) == len(pins)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    for requirement in map(Requirement, [*project["dependencies"], *project["optional-dependencies"]["dev"]]):
        assert requirement.name.lower() in pinned
        assert requirement.specifier.contains(pinned[requirement.name.lower()])
    assert "://" not in lock


def test_the_suite_runs_with_the_checks_on() -> None:
    assert len(jax.devices()) == 2
    assert jax.config.jax_debug_key_reuse  # type: ignore[attr-defined]
    assert jax.config.jax_numpy_rank_promotion == "raise"  # type: ignore[attr-defined]


def test_every_test_is_run() -> None:
    """The paths are listed for their order; none is forgotten."""
    paths = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["pytest"]["ini_options"]["testpaths"]
    files = {str(path.relative_to(ROOT)) for path in (ROOT / "tests").rglob("test_*.py")}
    assert {file for file in files if any(file == path or file.startswith(f"{path}/") for path in paths)} == files


def test_documentation_faults_are_found(tmp_path: Path) -> None:
    subprocess.run(["git", "init", "--quiet", str(tmp_path)], check=True)
    (tmp_path / "dreamerjax").mkdir()
    (tmp_path / "dreamerjax" / "loop.py").write_text("def train():\n    pass\n")
    (tmp_path / "Makefile").write_text("train: x\n")
    page = tmp_path / "README.md"
    page.write_text("[here](Makefile) `make train` `dreamerjax/` `python -m dreamerjax.config.cli` `runs/<id>`\n")
    places = tmp_path / "PLACES.md"
    places.write_text(
        '# What `run_it` does: [more](README.md), twice\n## <a id="mark"></a>Again\n## Again\n```bash\n# no heading\n```\n'
        "[a](#what-run_it-does-more-twice) [b](PLACES.md#mark) [c](#again) [d](#again-1) [loop.train](dreamerjax/loop.py)\n"
    )
    command = [str(ROOT / "tests" / "docs_check.py"), str(tmp_path)]
    sound = run(*command, cwd=tmp_path, path=ROOT)
    assert (sound.returncode, sound.stderr) == (0, "")
    page.write_text(
        "[gone](gone.md)\n`dreamerjax/gone.py`\n```bash\nmake gone  # make sure\npython -m dreamerjax.gone\n"
        "python -m dreamerjax.train +experiment=cartpole train.sed=1\n```\n"
        "[a](PLACES.md#no-heading) [b](PLACES.md#again-2) [loop.py::test](dreamerjax/loop.py)\n"
    )
    found = run(*command, cwd=tmp_path, path=ROOT)
    assert found.returncode == 1
    wanted = [
        "link to gone.md",
        "dreamerjax/gone.py",
        "make gone",
        "python -m dreamerjax.gone",
        "unknown key train.sed",
        "link to PLACES.md#no-heading: no such heading",
        "link to PLACES.md#again-2: no such heading",
        "link to dreamerjax/loop.py: it does not define test",
    ]
    assert all(text in found.stdout for text in wanted), found.stdout
    assert len(found.stdout.splitlines()) == len(wanted)
