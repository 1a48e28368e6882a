import hashlib
import os
import shlex
import shutil
import sys
import tarfile
import zipfile
from pathlib import Path
from subprocess import PIPE

import pytest
import yaml
from fakes.cub import make_fake_cub
from fakes.file_server import serving
from fakes.inaturalist import make_fake
from fakes.processes import started, until

from fgvc.__main__ import main
from fgvc.data.sources.cub import CUB
from fgvc.data.sources.inaturalist import INaturalist
from fgvc.files import shipped

REPO = Path(__file__).parents[2]


def packed(path, folder, *names):
    """Return the bytes of an archive of some names of a folder."""
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w") as file:
            for name in names:
                file.write(folder / name, f"inside/{name}")
    else:
        with tarfile.open(path, "w:gz") as file:
            for name in names:
                file.add(folder / name, name)
    return path.read_bytes()


@pytest.fixture(scope="module")
def archives(tmp_path_factory):
    """Path at the server -> bytes: a small CUB and a small iNaturalist 2021."""
    home = tmp_path_factory.mktemp("archives")
    make_fake_cub(home / "CUB_200_2011", num_classes=3, images_per_class=4)
    (home / "attributes.txt").write_text("1 has_bill_shape::curved\n")
    make_fake(home / "moths")
    return {
        "/cub.tgz": packed(home / "cub.tgz", home, "attributes.txt", "CUB_200_2011"),
        "/json.zip": packed(home / "json.zip", home / "moths", "val.json", "train_mini.json"),
        "/train.tar.gz": packed(home / "train.tar.gz", home / "moths", "train_mini"),
        "/val.tar.gz": packed(home / "val.tar.gz", home / "moths", "val"),
    }


@pytest.fixture
def server(archives, tmp_path, monkeypatch):
    """A server of these archives; the facts about them lie where a clone has them."""
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.chdir(tmp_path)
    with serving(dict(archives)) as running:
        folder = tmp_path / "clone" / "data" / "downloads"
        folder.mkdir(parents=True)
        for name in ("configs", "data/cub"):
            shutil.copytree(REPO / name, tmp_path / "clone" / name)
        monkeypatch.setattr(shipped, "PACKAGE", tmp_path / "clone" / "fgvc")
        write_facts(folder, archives, running.url)
        yield running


def write_facts(folder, archives, url):
    def archive(path, *makes, md5=True, **more):
        body = archives[path]
        known = {"md5": hashlib.md5(body).hexdigest(), "size": len(body)} if md5 else {"size": "1 MiB"}
        return {"url": url(path), "makes": list(makes), **known, **more}

    common = {"source": "https://example.org", "terms": ["Look, but do not touch.", "No commerce."]}
    cub = {
        **common,
        "title": "Birds",
        "config": "cub",
        "root": "CUB_200_2011",
        "archives": [archive("/cub.tgz", "attributes.txt", "CUB_200_2011")],
    }
    moths = {
        **common,
        "title": "Moths",
        "config": "inaturalist",
        "root": "my moths",
        "into": "my moths",
        "arguments": {"year": 2021},
        "parts": {"train_mini": {"mini": True}, "train": {"mini": False}},
        "archives": [
            archive("/json.zip", "train_mini.json", "val.json", md5=False),
            archive("/val.tar.gz", "val"),
            archive("/train.tar.gz", "train_mini", part="train_mini"),
            archive("/train.tar.gz", "train", part="train"),
        ],
    }
    for stem, facts in {"cub": cub, "moths": moths}.items():
        (folder / f"{stem}.yaml").write_text(yaml.safe_dump(facts, sort_keys=False))


def download(*words):
    return main(["data", "download", *words])


def kilobytes(count):
    """Return a number of bytes with three digits."""
    return f"{count / 1000:.{2 if count < 9995 else 1}f}kB"


def names(folder):
    return sorted(path.name for path in Path(folder).iterdir())


def test_without_a_name_all_are_listed_and_without_a_folder_one_is_described(server, archives, capsys):
    assert download() == 0
    assert capsys.readouterr().out == "cub                Birds\nmoths              Moths\n"
    assert download("cub") == 0
    size, md5 = len(archives["/cub.tgz"]), hashlib.md5(archives["/cub.tgz"]).hexdigest()
    assert capsys.readouterr().out == (
        "Birds\n"
        "  source  https://example.org\n"
        "  terms   Look, but do not touch.\n"
        "  terms   No commerce.\n"
        f"  file    {server.url('/cub.tgz')} ({kilobytes(size)}, md5 {md5})\n"
        f"  in all  {kilobytes(size)} to fetch, about {kilobytes(size * 1.1)} unpacked\n"
        "fgvc data download cub --to FOLDER fetches it\n"
    )
    assert download("moths") == 0
    said = capsys.readouterr().out
    assert "  part    train_mini (--part: train_mini, train)\n" in said
    assert f"  file    {server.url('/json.zip')} (about 1.05MB, md5 not published)\n" in said
    assert server.asked == []
    assert names(".") == ["clone"]


def test_cub_is_fetched_over_a_bad_line_and_read_by_its_source(server, capsys):
    server.plan = ["cut 2000", "ignore"]
    assert download("cub", "--to", "some data") == 0
    assert names("some data") == ["CUB_200_2011", "attributes.txt"]
    source = CUB("some data/CUB_200_2011")
    assert [len(source.records(split)) for split in ("train", "test")] == [6, 6]
    assert Path(source.records("test")[5].path).is_file()
    said = capsys.readouterr()
    assert said.out == ""
    first, *_, a, b = said.err.splitlines()
    assert first == "Birds"
    assert "some data/CUB_200_2011: 20 files of cub.tgz" in said.err
    assert a == "next: fgvc data verify --config cub --data.source.init_args.root 'some data/CUB_200_2011'"
    assert b == (
        "      fgvc fit --config cub --config whole_image --data.source.init_args.root 'some data/CUB_200_2011'"
    )


def test_the_next_command_works_as_it_is_printed(server, capsys):
    assert download("moths", "--to", "here") == 0
    line = next(line for line in capsys.readouterr().err.splitlines() if line.startswith("next: "))
    assert line == (
        "next: fgvc data verify --config inaturalist --data.source.init_args.root 'here/my moths' "
        "--data.source.init_args.year 2021 --data.source.init_args.mini true"
    )
    code = main(shlex.split(line.removeprefix("next: fgvc ")))
    said = capsys.readouterr()
    assert code in (0, 1) and "images of train" in said.err, said.err  # problems of the pictures are another matter


def test_several_archives_of_a_part_lie_side_by_side(server):
    assert download("moths", "--to", "here") == 0
    assert names("here/my moths") == ["train_mini", "train_mini.json", "val", "val.json"]
    source = INaturalist("here/my moths", mini=True)
    assert all(Path(record.path).is_file() for split in source.splits for record in source.records(split))


def test_what_is_there_is_left_and_not_fetched(server, capsys):
    mine = Path("here/CUB_200_2011/mine.txt")
    mine.parent.mkdir(parents=True)
    mine.write_text("mine")
    assert download("cub", "--to", "here") == 0
    assert server.asked == []
    assert names("here/CUB_200_2011") == ["mine.txt"]
    said = capsys.readouterr().err
    assert "here/CUB_200_2011: already there, left as it is\nnext: fgvc data verify" in said


def test_a_smaller_file_of_the_same_name_is_not_overwritten(server):
    Path("here").mkdir()
    Path("here/attributes.txt").write_text("mine")
    assert download("cub", "--to", "here") == 0
    assert Path("here/attributes.txt").read_text() == "mine"
    assert names("here") == ["CUB_200_2011", "attributes.txt"]


def test_archives_are_kept_where_that_is_asked_and_used_again(server, archives):
    assert download("cub", "--to", "here", "--keep_archive") == 0
    assert Path("here/cub.tgz").read_bytes() == archives["/cub.tgz"]
    shutil.rmtree("here/CUB_200_2011")
    assert download("cub", "--to", "here") == 0
    assert names("here") == ["CUB_200_2011", "attributes.txt"]
    assert len(server.asked) == 1


def test_an_archive_without_what_it_should_hold_leaves_nothing_but_itself(server, capsys):
    assert download("moths", "--part", "train", "--to", "here") == 1
    assert capsys.readouterr().err.endswith(
        "fgvc: here/my moths/train.tar.gz: holds no train; look for another source\n"
    )
    assert names("here/my moths") == ["train.tar.gz", "train_mini.json", "val", "val.json"]


def test_wrong_bytes_are_one_line_and_nothing_is_unpacked(server, archives, capsys):
    right, wrong = archives["/cub.tgz"], archives["/cub.tgz"][:-1] + b"!"
    server.files["/cub.tgz"] = wrong
    assert download("cub", "--to", "here") == 1
    assert capsys.readouterr().err.endswith(
        f"fgvc: here/cub.tgz: its md5 is {hashlib.md5(wrong).hexdigest()}, not {hashlib.md5(right).hexdigest()}; put "
        "aside as cub.tgz.wrong: give the same command again to fetch it anew\n"
    )
    assert names("here") == ["cub.tgz.wrong"]


def test_an_archive_that_reaches_out_of_its_folder_is_refused(server, archives, tmp_path, capsys):
    (tmp_path / "evil").write_bytes(b"evil")
    with tarfile.open(tmp_path / "evil.tgz", "w:gz") as file:
        file.add(tmp_path / "evil", "CUB_200_2011/a")
        file.add(tmp_path / "evil", "../../escaped")
    facts = tmp_path / "clone/data/downloads/cub.yaml"
    known = yaml.safe_load(facts.read_text())
    server.files["/cub.tgz"] = (tmp_path / "evil.tgz").read_bytes()
    known["archives"][0] |= {"size": "1 MiB", "md5": None}
    facts.write_text(yaml.safe_dump(known, sort_keys=False))
    assert download("cub", "--to", "deep/here") == 1
    assert capsys.readouterr().err.endswith(
        "fgvc: deep/here/cub.tgz: its member '../../escaped' leads out of the folder; nothing of it is used: look for "
        "another source\n"
    )
    assert not list(tmp_path.rglob("escaped"))
    assert names("deep/here") == ["cub.tgz"]


def test_leftovers_of_a_kill_while_unpacking_are_cleared(server):
    left = Path("here/.cub.tgz.unpacking/CUB_200_2011")
    left.mkdir(parents=True)
    (left / "half.txt").write_text("half")
    assert download("cub", "--to", "here") == 0
    assert names("here") == ["CUB_200_2011", "attributes.txt"]
    assert not Path("here/CUB_200_2011/half.txt").exists()


def test_wrong_words_are_one_line(server, tmp_path, capsys):
    Path("file").write_text("")
    refusals = {
        ("cup", "--to", "x"): "cup: no data set that can be fetched; there are cub, moths; did you mean 'cub'?",
        ("cub", "--part", "mini"): "--part mini: no part of Birds; it comes whole",
        ("moths", "--part", "tain"): "--part tain: no part of Moths; it comes in the parts train_mini, train; did you "
        "mean 'train'?",
        ("cub", "--to", "file"): "--to file: file is a file, not a folder",
        ("cub", "--to", "file/deeper"): "--to file/deeper: file is a file, not a folder",
    }
    for words, line in refusals.items():
        assert download(*words) == 2
        assert capsys.readouterr().err.splitlines()[-1] == f"fgvc: {line}"
    assert server.asked == []


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_cannot_be_written_is_one_line(server, capsys):
    Path("here").mkdir(mode=0o500)
    assert download("cub", "--to", "here") == 2
    assert "fgvc: --to here: cannot be written (Permission denied); choose another folder" in capsys.readouterr().err


def test_a_full_disk_is_known_before_anything_is_fetched(server, monkeypatch, capsys):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10**6, 10**6 - 500, 500))
    assert download("cub", "--to", "here") == 1
    said = capsys.readouterr().err.splitlines()[-1]
    assert said.startswith("fgvc: here: 500B free, about ") and said.endswith(
        "kB needed; make room, or choose another --to"
    )
    assert server.asked == [] and not Path("here").exists()


def test_two_at_once_are_refused(server, capsys):
    fcntl = pytest.importorskip("fcntl")
    Path("here").mkdir()
    with Path("here/.fgvc_download").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert download("cub", "--to", "here") == 1
    assert capsys.readouterr().err.endswith("fgvc: here: another `fgvc data download` is at work there; wait for it\n")
    assert download("cub", "--to", "here") == 0
    assert names("here") == ["CUB_200_2011", "attributes.txt"]


@pytest.mark.skipif(os.name == "nt", reason="needs POSIX signals")
@pytest.mark.parametrize(("signal", "code"), [(2, 130), (9, -9)], ids=["Ctrl-C", "kill"])
def test_a_run_that_was_stopped_continues(server, archives, signal, code):
    server.plan = ["stall 2500"]
    program = (
        "import pathlib, sys; from fgvc.files import shipped; from fgvc.commands.data_download import main\n"
        f"shipped.PACKAGE = pathlib.Path({str(shipped.PACKAGE)!r})\n"
        "try: main(['cub', '--to', 'here'])\n"
        "except KeyboardInterrupt: sys.exit(130)"
    )
    part = Path("here/cub.tgz.part")
    with started([sys.executable, "-c", program], stderr=PIPE, text=True) as process:
        until(lambda: part.exists() and part.stat().st_size == 2500, process)
        process.send_signal(signal)
        said = process.communicate()[1]
    assert process.returncode == code
    assert ("what has arrived is kept: give the same command again to continue" in said) == (signal == 2)
    assert download("cub", "--to", "here") == 0
    assert server.asked[-1]["Range"] == "bytes=2500-"
    assert names("here") == ["CUB_200_2011", "attributes.txt"]
