import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

REPO = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The wheel of the repository, built without the network."""
    pytest.importorskip("build")
    pytest.importorskip("setuptools", minversion="77")
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    source.mkdir()
    for name in ("fgvc", "configs", "data", "pyproject.toml", "README.md", "LICENSE"):
        copy(REPO / name, source / name)
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(source)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return next(folder.glob("*.whl"))


def copy(source, target):
    """Copy text files only: photographs may lie in `data/`."""
    if source.is_dir():
        for file in source.rglob("*"):
            if file.suffix in (".py", ".yaml", ".csv", ".md", ".typed", ".j2", ".css", ".js"):
                copy(file, target / file.relative_to(source))
    elif source.is_file():
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(source.read_bytes())


def test_the_wheel_holds_what_a_user_needs_and_no_tests(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    assert "fgvc/py.typed" in names
    package = [*(REPO / "fgvc").rglob("*.py"), *(REPO / "fgvc/report/templates").iterdir()]
    for file in sorted(package):
        assert file.relative_to(REPO).as_posix() in names
    for file in sorted((REPO / "configs").rglob("*.yaml")):
        assert f"fgvc/_configs/{file.relative_to(REPO / 'configs').as_posix()}" in names
    assert not [name for name in names if "test" in name.lower() or name.startswith(("configs/", "data/"))]


def test_the_installed_wheel_finds_its_files_from_any_folder(wheel, tmp_path):
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "site")
    (tmp_path / "elsewhere").mkdir()
    program = (
        "import fgvc.files.shipped, fgvc.__main__; print(fgvc.files.shipped.facts('cub/taxonomy.csv'));"
        "fgvc.__main__.main(['configs']); fgvc.__main__.main(['--version'])"
    )
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "site")}
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, cwd=tmp_path / "elsewhere", env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    facts, *configs, version = done.stdout.splitlines()
    site = tmp_path / "site" / "fgvc"
    assert facts == str(site / "_facts/cub/taxonomy.csv")
    assert Path(facts).read_bytes() == (REPO / "data/cub/taxonomy.csv").read_bytes()
    assert {line.split()[0] for line in configs} == {file.stem for file in (REPO / "configs").rglob("*.yaml")}
    assert all(line.split()[-1].startswith(str(site / "_configs")) for line in configs)
    assert version.count(".") == 2
