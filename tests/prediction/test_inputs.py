import os
from pathlib import Path

import pandas as pd
import pytest
from fakes.tiny_model import saved

from fgvc.errors import UsageError
from fgvc.prediction.inputs import named_in, pictures_of, read_inputs
from fgvc.prediction.predictor import load

NAMES = ["birds/1.jpg", "birds/10.png", "birds/2.jpg", "odd [1].jpg"]


@pytest.fixture
def here(tmp_path, monkeypatch):
    """Pictures below the folder that one is in, and a note."""
    monkeypatch.chdir(tmp_path)
    for name in [*NAMES, "birds/.hidden.jpg", "birds/sub/3.jpg"]:
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_bytes(b"x")
    Path("birds/notes.txt").write_text("nothing to see\n")
    return tmp_path


def listed(*names, **options):
    pictures, count = pictures_of(read_inputs(names, **options))
    paths = [os.fspath(picture) for picture in pictures]
    assert count == len(paths)
    return paths


def refused(*names, **options):
    with pytest.raises(UsageError) as caught:
        read_inputs(names, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_pattern_is_what_a_shell_makes_of_it(here):
    assert listed("birds/*.jpg") == ["birds/1.jpg", "birds/2.jpg"]
    assert listed("birds/?.*", "odd [1].jpg") == ["birds/1.jpg", "birds/2.jpg", "odd [1].jpg"]  # a file of that name
    assert listed("**/*.jpg") == sorted(path.as_posix() for path in Path().rglob("*.jpg") if ".hidden" not in path.name)
    assert listed("bir*") == ["birds/1.jpg", "birds/10.png", "birds/2.jpg", "birds/sub/3.jpg"]  # a folder is its own
    assert refused("birds/*.bmp") == "birds/*.bmp: no file fits this pattern"


@pytest.mark.parametrize("column", ["path", "file", "filename", "image", "img", "file_name"])
@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".parquet"])
def test_a_table_is_its_column_of_paths(here, column, suffix):
    frame = pd.DataFrame({"label": list("abc"), column: NAMES[:3]})
    table = Path(f"list{suffix}")
    frame.to_parquet(table) if suffix == ".parquet" else frame.to_csv(table, sep="\t" if suffix == ".tsv" else ",")
    assert listed(str(table)) == NAMES[:3]
    assert [os.fspath(path) for path in named_in(table)] == NAMES[:3]


def test_a_list_has_a_path_a_line(here):
    text = "\ufeff" + "\r\n".join([*NAMES, "", " birds/sub \n"])
    for name, typed in (("list.txt", "list.txt"), ("list", "@list"), ("list.txt", "@list.txt")):
        Path(name).write_text(text, encoding="utf-8", newline="")
        assert listed(typed, "birds/1.jpg") == [*NAMES, "birds/sub/3.jpg", "birds/1.jpg"]
    assert listed("birds/notes.txt") == ["birds/notes.txt"]  # no list: reading it as a picture says so
    Path("@odd.jpg").write_bytes(b"x")
    assert listed("@odd.jpg") == ["@odd.jpg"]


def test_relative_paths_start_beside_the_table_else_where_one_is_else_at_root(here, monkeypatch):
    Path("far/birds").mkdir(parents=True)
    Path("far/birds/2.jpg").write_bytes(b"x")
    Path("far/a.csv").write_text("path\nbirds/9.jpg\nbirds/2.jpg\n")
    Path("far/b.txt").write_text("birds/1.jpg\n")
    Path("far/c.csv").write_text(f"path\n{here / 'birds/1.jpg'}\nx.jpg\n")
    assert listed("far/a.csv") == ["far/birds/9.jpg", "far/birds/2.jpg"]  # the first may be gone: its row says so
    assert listed("far/b.txt") == ["birds/1.jpg"]
    assert listed("far/c.csv") == [str(here / "birds/1.jpg"), "far/x.jpg"]
    assert listed("far/a.csv", "far/b.txt", root=here) == [f"{here}/birds/{name}.jpg" for name in (9, 2, 1)]
    said = "far/a.csv row 2: no file birds/birds/9.jpg; give --root FOLDER, where relative paths start"
    assert refused("far/a.csv", root=Path("birds")) == said


def test_label_studio_and_other_columns(here):
    rows = [f"/data/local-files/?d={name.replace(' ', '%20')}" for name in NAMES]
    pd.DataFrame({"image": rows, "choice": "x"}).to_csv("studio.csv")
    assert listed("studio.csv") == NAMES
    pd.DataFrame({"foto": NAMES, "file": 1}).to_csv("t.csv")
    assert listed("t.csv", path_column="foto") == NAMES
    assert [os.fspath(path) for path in named_in("t.csv", "foto")] == NAMES


WRONG = {
    "gone.jpg": "gone.jpg: no such picture or folder",
    "@gone.txt": "gone.txt: the list cannot be read (No such file or directory)",
    "@birds": "birds: the list cannot be read (Is a directory)",
    "empty.txt": "empty.txt: no such picture or folder",
    "@blank": "blank: the list is empty; write one path per line",
    "utf16.txt": "utf16.txt line 1: a zero byte; save the list as UTF-8 text, one path per line",
    "lost.txt": "lost.txt line 1: no file x/1.jpg; give --root FOLDER, where relative paths start",
    "none.csv": "none.csv: no column 'path'; it has ['foto', 'label']; give --path_column foto",
    "two.csv": "two.csv: columns 'file' and 'img' could be the paths; give --path_column file or another",
    "hole.csv": "hole.csv row 3: column 'file' is empty; name a file or remove the row",
    "web.csv": "web.csv row 2: 'https://example.org/a.jpg' is an address, not a file; download the photographs",
    "rows.csv": "rows.csv: a header but no rows",
    "no.parquet": "no.parquet: not a readable Parquet file",
}


@pytest.mark.parametrize("name", WRONG)
def test_each_wrong_input_is_one_line(here, name):
    Path("blank").write_text("\n \n")
    Path("utf16.txt").write_text("birds/1.jpg", encoding="utf-16")
    Path("lost.txt").write_text("x/1.jpg\nx/2.jpg\n")
    Path("none.csv").write_text("foto,label\na.jpg,x\n")
    Path("two.csv").write_text("file,img\na.jpg,b.jpg\n")
    Path("hole.csv").write_text("file,label\nbirds/1.jpg,x\n,y\n")
    Path("web.csv").write_text("image\nhttps://example.org/a.jpg\n")
    Path("rows.csv").write_text("path\n")
    Path("no.parquet").write_bytes(b"x")
    assert refused(name).startswith(WRONG[name])


def test_a_flag_that_nothing_needs_is_refused(here):
    assert refused("birds", path_column="x") == "--path_column x: there is no table among the inputs; leave it out"
    assert refused("birds", root=Path("y")) == "--root y: there is no table or list among the inputs; leave it out"
    for given in ("birds", ["birds"], pd.DataFrame({"x": NAMES})):
        with pytest.raises(UsageError, match=r"path_column: only for a table that is a file; .* table\['x'\]"):
            named_in(given, "x")


def test_anything_else_is_left_as_it_is(here):
    for given in ("birds", Path("birds/1.jpg"), "gone.jpg", "x" * 5000, ["birds/*.jpg"], b"bytes", None, 3):
        assert named_in(given) is given


def test_python_takes_what_the_command_line_takes(tmp_path, monkeypatch):
    from PIL import Image

    monkeypatch.chdir(tmp_path)
    predictor = load(saved(Path("run")), "cpu")
    for i in range(3):
        Image.new("RGB", (40, 30), (80 * i, 40, 90)).save(f"{i}.png")
    names = ["0.png", "1.png", "2.png"]
    Path("list.txt").write_text("\n".join(names))
    Path("t.csv").write_text("foto\n" + "\n".join(names))
    wanted = predictor.predict(names)
    assert predictor.predict("*.png") == predictor.predict("list.txt") == predictor.predict(Path("list.txt")) == wanted
    assert predictor.predict("t.csv", path_column="foto") == wanted == list(predictor.predict_iter("@list.txt"))
    with pytest.raises(UsageError, match="no file fits this pattern"):
        predictor.predict("*.bmp")
