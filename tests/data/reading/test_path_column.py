from pathlib import Path
from urllib.parse import quote

import pandas as pd
import pytest

from fgvc.data.reading.path_column import KNOWN, find_path_column, local_path
from fgvc.errors import UsageError


def found(folder, header, row="x", suffix="csv", likely=()):
    file = folder / f"t.{suffix}"
    if suffix == "parquet":
        pd.DataFrame([row.split(",")], columns=header.split(",")).to_parquet(file)
    else:
        file.write_text(f"{header}\n{row}\n", encoding="utf-8-sig")
    return find_path_column(file, "--path_column", likely)


@pytest.mark.parametrize(
    ("header", "column"),
    [
        ("label,path,file", "path"),  # path wins
        ("image_id,file_name,width", "file_name"),  # COCO
        ("image,id,choice,annotator", "image"),  # Label Studio
        ("id,filename", "filename"),
        ("img,class", "img"),
        ("file;label", "file"),
        ("label\tImage Path", "Image Path"),
        ("PATH,label", "PATH"),
    ],
)
@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_the_column_of_paths_is_found_by_its_name(tmp_path, header, column, suffix):
    if suffix == "parquet":
        header = header.replace(";", ",").replace("\t", ",")
    assert found(tmp_path, header, ",".join("abcd"[: header.count(",") + 1]), suffix) == column


@pytest.mark.parametrize("name", KNOWN)
def test_every_known_name_is_found_alone(tmp_path, name):
    assert found(tmp_path, f"label,{name}") == name


@pytest.mark.parametrize(
    ("header", "row", "said"),
    [
        ("file,image", "a.jpg,3", "columns 'file' and 'image' could be the paths; give --path_column file or another"),
        ("foto,label", "a.JPG,x", "no column 'path'; it has ['foto', 'label']; give --path_column foto"),
        ("paht,label", "a,x", "no column 'path'; it has ['paht', 'label']; give --path_column paht"),
        ("x,y", "1,2", "no column 'path'; it has ['x', 'y']; give --path_column NAME"),
    ],
)
@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_no_column_or_several_are_one_line(tmp_path, header, row, said, suffix):
    with pytest.raises(UsageError) as caught:
        found(tmp_path, header, row, suffix)
    assert str(caught.value) == f"{tmp_path / f't.{suffix}'}: {said}"


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("t.csv", b"pa\xf6th,x\n", "not UTF-8 (byte 0xf6)"),
        ("t.csv", b"", "no column 'path'; it has []"),
        ("t.parquet", b"no parquet", "not a readable Parquet file"),
    ],
)
def test_a_broken_table_is_one_line(tmp_path, name, content, said):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UsageError) as caught:
        find_path_column(tmp_path / name, "--path_column")
    assert said in str(caught.value) and "\n" not in str(caught.value)
    with pytest.raises(UsageError, match="no such table"):
        find_path_column(tmp_path / "gone.csv", "--path_column")


@pytest.mark.parametrize("name", ["a.jpg", "birds 1/Möwe & Co.jpg", "100%/a+b#2?.jpg", "[x]/a=b.jpg"])
def test_addresses_of_local_files_are_paths(name):
    assert local_path(f"/data/local-files/?d={quote(name)}") == name
    assert local_path(f"https://label.studio.here:8080/data/local-files/?d={quote(name, safe='')}") == name
    assert local_path((Path("/") / name).as_uri()) == f"/{name}"
    assert local_path(name) == name and local_path(f"C:/{name}") == f"C:/{name}"


def test_an_address_of_label_studio_that_is_not_escaped_is_read_as_it_is_served():
    assert local_path("/data/local-files/?d=my birds/a b.jpg") == "my birds/a b.jpg"
    for other in (
        "/data/upload/3/a.jpg",
        "/data/local-files/a.jpg",
        "/data/local-files/?x=1",
        "x/data/local-files/?d=a",
    ):
        assert local_path(other) == other


@pytest.mark.parametrize("cell", ["https://example.org/a.jpg", "s3://bucket/a.jpg", "http://x/data/local-files/"])
def test_an_address_of_the_web_is_refused(cell):
    with pytest.raises(UsageError, match="is an address, not a file; download"):
        local_path(cell)
