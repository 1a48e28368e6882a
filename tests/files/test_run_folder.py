import json
import platform
from datetime import UTC, datetime, timedelta

import pytest
import torch

from fgvc.errors import FgvcError, UsageError
from fgvc.files import run_folder


def old_run(folder):
    run_folder.create(folder, "model: old\n")
    (folder / "model").mkdir()
    (folder / "model" / "fgvc.json").write_text("precious")
    return folder


def test_a_new_run_holds_its_config_and_the_machine(tmp_path):
    folder = tmp_path / "runs" / "birds"
    run_folder.check(folder, overwrite=False)
    run_folder.create(folder, "model: new\n")
    assert (folder / "config.yaml").read_text() == "model: new\n"
    machine = json.loads((folder / "environment.json").read_text())
    assert machine["python"] == platform.python_version()
    assert machine["packages"]["torch"] == torch.__version__.partition("+")[0]
    assert sorted(path.name for path in folder.iterdir()) == ["config.yaml", "environment.json"]  # no .part left


def test_the_command_is_told_without_the_path_of_the_program_and_with_the_time(monkeypatch):
    monkeypatch.setattr("sys.argv", ["/home/somebody/bin/fgvc", "fit", "--name", "x"])
    found = run_folder.environment()
    assert found["command"] == ["fgvc", "fit", "--name", "x"]
    age = datetime.now(UTC) - datetime.fromisoformat(found["date"])
    assert timedelta(seconds=-1) < age < timedelta(minutes=1)


def test_what_a_resumed_run_adds_is_kept_beside_what_was_there(tmp_path):
    folder = tmp_path / "runs/birds"
    run_folder.create(folder, "a: 1\n")
    first = json.loads((folder / "environment.json").read_text())
    for number in (2, 3):
        run_folder.go_on(folder, f"a: {number}\n")
    known = json.loads((folder / "environment.json").read_text())
    assert {key: known[key] for key in first} == first
    assert [set(one) for one in known["resumed"]] == [set(first)] * 2
    assert (folder / "config.yaml").read_text() == "a: 3\n"
    assert (tmp_path / "runs/latest").read_text() == "birds\n"


def test_a_run_is_never_overwritten_unasked(tmp_path):
    folder = old_run(tmp_path / "birds")
    with pytest.raises(UsageError, match=r"birds: this run exists already; choose another --name, or give --overwrite"):
        run_folder.check(folder, overwrite=False)
    assert (folder / "model" / "fgvc.json").read_text() == "precious"


def test_a_run_is_replaced_when_asked(tmp_path):
    folder = old_run(tmp_path / "birds")
    run_folder.check(folder, overwrite=True)
    run_folder.create(folder, "model: new\n")
    assert (folder / "config.yaml").read_text() == "model: new\n"
    assert not (folder / "model").exists()


def test_a_folder_that_is_no_run_is_never_deleted(tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    (folder / "thesis.txt").write_text("years of work")
    for overwrite in (False, True):
        with pytest.raises(UsageError):
            run_folder.check(folder, overwrite)
    with pytest.raises(UsageError, match="not a run folder"):
        run_folder.check(folder, overwrite=True)
    run_folder.discard(folder)
    assert (folder / "thesis.txt").read_text() == "years of work"


def test_an_empty_folder_may_be_used(tmp_path):
    run_folder.check(tmp_path, overwrite=False)
    run_folder.create(tmp_path, "seed_everything: 0\n")
    assert (tmp_path / run_folder.CONFIG).read_text() == "seed_everything: 0\n"


def test_a_run_below_a_file_is_one_line(tmp_path):
    (tmp_path / "runs").write_text("a file")
    with pytest.raises(FgvcError, match=r"runs/birds: cannot be written \(.+\)"):
        run_folder.create(tmp_path / "runs" / "birds", "model: new\n")


def test_latest_points_to_the_newest_run(tmp_path):
    for name in ("first", "second"):
        run_folder.create(tmp_path / name, "{}")
        assert run_folder.resolve(tmp_path / "latest") == tmp_path / name
    assert run_folder.resolve(tmp_path / "first") == tmp_path / "first"
    assert run_folder.followed(tmp_path / "latest") == tmp_path / "second"
    assert run_folder.followed(tmp_path / "none" / "latest") == tmp_path / "none" / "latest"
    assert (tmp_path / "latest").is_file()  # a text file: links are not to be had everywhere


def test_a_run_that_failed_at_the_start_frees_its_name(tmp_path):
    run_folder.create(tmp_path / "first", "{}")
    run_folder.create(tmp_path / "second", "{}")
    run_folder.discard(tmp_path / "second")
    assert [path.name for path in tmp_path.iterdir()] == ["first"]


@pytest.mark.parametrize("name", ["nowhere", "latest"])
def test_a_folder_without_config_is_no_run(tmp_path, name):
    with pytest.raises(UsageError, match=rf"{name}: no run folder \(no config.yaml in it\)"):
        run_folder.resolve(tmp_path / name)


def test_a_run_is_judged_by_its_best_checkpoint_where_it_has_one(tmp_path):
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "last.ckpt").touch()
    assert run_folder.checkpoint(tmp_path).name == "last.ckpt"
    (tmp_path / "checkpoints" / "best.ckpt").touch()
    assert run_folder.checkpoint(tmp_path).name == "best.ckpt"
