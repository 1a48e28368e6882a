from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from fgvc.data.sources.table import Table
from fgvc.errors import UsageError

TREE = "family,genus,species\nLaridae,Larus,Larus canus\nLaridae,Larus,Larus fuscus\nLaridae,Sterna,Sterna hirundo\n"


def table(folder: Path, text: str, files: bool = True) -> str:
    """Write a table and an empty file for each of its first cells."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "birds.csv").write_text(text, encoding="utf-8")
    for line in text.splitlines()[1:] if files else ():
        name = line.split(",")[0]
        if name and not Path(name).is_absolute():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(b"")
    return str(folder / "birds.csv")


def seen(source, split):
    return {Path(record.path).name: source.taxonomy.path(record.label) for record in source.records(split)}


def many(folder: Path, header="path,label", row="{c}/{i}.jpg,bird {c}", classes=5, each=20) -> str:
    rows = [row.format(c=c, i=i, site=(i + 3 * c) % 25) for c in range(classes) for i in range(each)]
    return table(folder, "\n".join([header, *rows]) + "\n")


def said(text, folder, files=True, **options):
    with pytest.raises(UsageError) as caught:
        Table(table(folder, text, files), **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_val_and_test_may_have_new_classes(tmp_path):
    text = "path,label,split\na.jpg,gull,train\nb.jpg,duck,val\nc.jpg,tern,test\n"
    source = Table(table(tmp_path, text), new_classes=True)
    assert source.taxonomy.names("class") == ("duck", "gull", "tern")
    assert [source.records(split).labels.tolist() for split in ("train", "val", "test")] == [[1], [0], [2]]


def test_labels_and_splits_of_a_plain_table(tmp_path):
    text = (
        "path,label,split\nx/a.jpg,gull,train\nb.jpg,duck,Train\nc.jpg,gull,validation\n"
        "d.jpg,duck,TEST\ne.jpg,gull,valid\n"
    )
    source = Table(table(tmp_path, text))
    assert source.splits == ("train", "val", "test")
    assert source.taxonomy.levels == ("class",)
    assert source.taxonomy.names("class") == ("duck", "gull")
    assert seen(source, "train") == {"a.jpg": ("gull",), "b.jpg": ("duck",)}
    assert seen(source, "val") == {"c.jpg": ("gull",), "e.jpg": ("gull",)}
    assert seen(source, "test") == {"d.jpg": ("duck",)}
    assert source.records("train")[0].path == str(tmp_path / "x/a.jpg")
    assert source.groups("train") is None


def test_relative_paths_start_at_root_and_absolute_ones_stay(tmp_path):
    (tmp_path / "far").mkdir()
    for name in ("far/a.jpg", "b.jpg"):
        (tmp_path / name).write_bytes(b"")
    path = table(tmp_path / "lists", f"path,label\na.jpg,x\n{tmp_path / 'b.jpg'},x\n", files=False)
    source = Table(path, root=str(tmp_path / "far"), test_fraction=0)
    assert [r.path for r in source.records("train")] == [str(tmp_path / "far/a.jpg"), str(tmp_path / "b.jpg")]
    assert source.splits == ("train",)


def test_without_a_split_column_a_stratified_test_part_is_cut(tmp_path):
    source = Table(many(tmp_path), test_fraction=0.25)
    assert source.splits == ("train", "test")
    assert Counter(source.records("test").labels.tolist()) == dict.fromkeys(range(5), 5)
    assert not {r.path for r in source.records("train")} & {r.path for r in source.records("test")}
    assert len(source.records("train")) == 75
    again, other = Table(many(tmp_path), test_fraction=0.25), Table(many(tmp_path), test_fraction=0.25, seed=9)
    assert list(again.records("test")) == list(source.records("test"))
    assert list(other.records("test")) != list(source.records("test"))


def test_the_cut_does_not_hang_on_the_order_of_rows(tmp_path):
    path = Path(many(tmp_path))
    first = {r.path for r in Table(str(path)).records("test")}
    header, *rows = path.read_text().splitlines()
    path.write_text("\n".join([header, *reversed(rows)]))
    assert {r.path for r in Table(str(path)).records("test")} == first


def test_no_group_is_cut_and_the_groups_of_a_split_are_returned(tmp_path):
    source = Table(many(tmp_path, "path,label,group", "{c}/{i}.jpg,bird {c},site {site}"))
    site = {f"{c}/{i}.jpg": (i + 3 * c) % 25 for c in range(5) for i in range(20)}
    sites, ids = {}, {}
    for split in source.splits:
        records, groups = source.records(split), source.groups(split)
        assert groups.shape == (len(records),)
        names = [site[records.relative_path(i)] for i in range(len(records))]
        sites[split], ids[split] = set(names), set(groups.tolist())
        assert len(set(zip(names, groups.tolist(), strict=True))) == len(sites[split]) == len(ids[split])
    assert not sites["train"] & sites["test"]
    assert not ids["train"] & ids["test"]
    assert 14 <= len(source.records("test")) <= 26
    assert set(source.records("train").labels.tolist()) == set(range(5))


def test_blank_groups_are_groups_of_one(tmp_path):
    text = "path,label,burst\na.jpg,x,\nb.jpg,x,k\nc.jpg,x,\nd.jpg,x,k\n"
    groups = Table(table(tmp_path, text), group_column="burst", test_fraction=0).groups("train")
    assert groups.dtype == np.int64
    assert groups[1] == groups[3]
    assert len(set(groups.tolist())) == 3


def test_a_split_column_that_cuts_a_group_is_refused_unless_groups_are_switched_off(tmp_path):
    text = "path,label,split,group\na.jpg,x,train,1\nb.jpg,x,train,2\nc.jpg,x,test,1\n"
    assert "row 4: in test, but row 2 of the same group in train" in said(text, tmp_path)
    assert Table(table(tmp_path, text), group_column="").groups("train") is None
    assert Table(table(tmp_path, text.replace("test,1", "test,3"))).splits == ("train", "test")


def test_columns_may_have_other_names_and_the_split_column_can_be_ignored(tmp_path):
    text = "file,bird,part,split\na.jpg,x,train,q\nb.jpg,y,train,q\nc.jpg,x,test,q\n"
    source = Table(table(tmp_path, text), path_column="file", label_column="bird", split_column="part")
    assert [len(source.records(split)) for split in source.splits] == [2, 1]
    flat = Table(table(tmp_path, text), path_column="file", label_column="bird", split_column="", test_fraction=0)
    assert len(flat.records("train")) == 3


def test_a_label_may_be_any_rank_of_the_taxonomy(tmp_path):
    (tmp_path / "tree.csv").write_text(TREE)
    text = (
        "path,label,split\na.jpg,Larus fuscus,train\nb.jpg,Larus,train\nc.jpg,Laridae,train\n"
        "d.jpg,Sterna hirundo,test\n"
    )
    source = Table(table(tmp_path, text), taxonomy=str(tmp_path / "tree.csv"))
    assert source.taxonomy.num_classes == 3
    assert seen(source, "train") == {
        "a.jpg": ("Laridae", "Larus", "Larus fuscus"),
        "b.jpg": ("Laridae", "Larus"),
        "c.jpg": ("Laridae",),
    }
    assert source.records("test").labels.tolist() == [2]


def test_level_columns_build_the_tree_and_empty_finer_cells_mean_this_rank_only(tmp_path):
    text = (
        "path,family,genus,species\na.jpg,Laridae,Larus,Larus canus\nb.jpg,Laridae,Larus,\nc.jpg,Laridae,,\n"
        "d.jpg,Alcidae,,Alle alle\ne.jpg,Anatidae,Anas,\n"
    )
    source = Table(table(tmp_path, text), levels=["family", "genus", "species"], test_fraction=0)
    assert source.taxonomy.levels == ("family", "genus", "species")
    assert seen(source, "train") == {
        "a.jpg": ("Laridae", "Larus", "Larus canus"),
        "b.jpg": ("Laridae", "Larus"),
        "c.jpg": ("Laridae",),
        "d.jpg": ("Alcidae", "Alcidae", "Alle alle"),
        "e.jpg": ("Anatidae", "Anas"),
    }
    leaves = source.taxonomy.to_plain()["leaves"]
    assert ["Anatidae", "Anas", "Anas"] in leaves  # no row goes below this genus
    assert len(leaves) == 3


def test_one_level_column_names_the_level(tmp_path):
    source = Table(table(tmp_path, "path,apple\na.jpg,Boskoop\nb.jpg,Elstar\n"), levels=["apple"], test_fraction=0)
    assert source.taxonomy.levels == ("apple",)


def test_a_pandas_parquet_is_a_table(tmp_path):
    csv = many(tmp_path)
    pd.read_csv(csv).to_parquet(tmp_path / "birds.parquet")
    one, other = Table(csv), Table(str(tmp_path / "birds.parquet"))
    assert one.taxonomy == other.taxonomy
    assert list(one.records("test")) == list(other.records("test"))


def test_files_are_looked_for_at_the_start_only_and_never_opened(tmp_path):
    path = many(tmp_path)  # all files are empty
    (tmp_path / "4/19.jpg").unlink()
    Table(path)
    (tmp_path / "0/1.jpg").unlink()
    with pytest.raises(UsageError, match=r"row 3: no file .*0/1\.jpg; relative paths start at `root`"):
        Table(path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("path,label\na.jpg,x\n\nb.jpg,\n", "row 4: column 'label' is empty"),
        ("path,label\na.jpg,x\n,y\n", "row 3: column 'path' is empty"),
        ("path,label\na.jpg,x\nb.jpg,x\na.jpg,y\n", "row 4: 'a.jpg' is already in row 2"),
        ("path,label,split\na.jpg,x,train\nb.jpg,x,tran\n", "row 3: 'tran' in column 'split' is none of"),
        ("path,label,split\na.jpg,x,train\nb.jpg,x,tran\n", "did you mean 'train'?"),
        ("path,label,split\na.jpg,x,\n", "row 2: '' in column 'split'"),
        ("path,label,split\na.jpg,x,test\n", "no row of column 'split' says train; it has ['test']"),
        ("path,label,split\na.jpg,gull,train\nb.jpg,gul,test\n", "row 3: no train row has 'gul'; did you mean 'gull'?"),
        ("path,label\na.jpg,x\nb.jpg,y\n", "test_fraction=0.2 cuts nothing off 2 rows"),
    ],
)
def test_a_cell_that_means_nothing_is_named_by_its_row(tmp_path, text, message):
    assert message in said(text, tmp_path)


def test_a_label_outside_the_taxonomy_is_named_with_its_nearest(tmp_path):
    (tmp_path / "tree.csv").write_text(TREE)
    message = said("path,label\na.jpg,Larus\nb.jpg,Larus cannus\n", tmp_path, taxonomy=str(tmp_path / "tree.csv"))
    assert "row 3: column 'label'" in message
    assert "did you mean 'Larus canus'" in message
    message = said("path,label\na.jpg,Larus\nb.jpg,\n", tmp_path, taxonomy=str(tmp_path / "tree.csv"))
    assert "row 3: column 'label' is empty" in message


def test_wrong_options_are_one_line(tmp_path):
    text = "path,label,site\na.jpg,x,1\n"
    assert "no column 'sites'; it has" in said(text, tmp_path, group_column="sites")
    assert "not both" in said(text, tmp_path, levels=["label"], taxonomy="tree.csv")
    assert "row 3: column 'family' is empty" in said(
        "path,family,genus\na.jpg,F,G\nb.jpg,,G\n", tmp_path, levels=["family", "genus"]
    )
    assert "less than 1" in said(text, tmp_path, test_fraction=20)


@pytest.mark.parametrize("column", ["Split", "SPLIT", "splits", "spilt", "s plit"])
def test_a_column_that_is_nearly_called_as_one_that_is_read_is_asked_about(tmp_path, column):
    text = f"path,label,{column}\na.jpg,x,train\nb.jpg,y,train\nc.jpg,x,test\n"
    assert said(text, tmp_path) == (
        f"{tmp_path / 'birds.csv'}: column {column!r} is not read; did you mean 'split'? Rename it, or give "
        f'split_column: {column}; split_column: "" ignores it'
    )
    assert Table(table(tmp_path, text), split_column=column).splits == ("train", "test")
    assert len(Table(table(tmp_path, text), split_column="", test_fraction=0).records("train")) == 3


def test_near_columns_of_every_role_are_told_and_others_stay_allowed(tmp_path):
    row = "a.jpg,x,1"
    assert "column 'Group' is not read; did you mean 'group'?" in said(f"path,label,Group\n{row}\n", tmp_path)
    assert "did you mean 'Labels'?" in said(f"path,Labels,n\n{row}\n", tmp_path)
    assert "did you mean 'Genus'?" in said(f"path,Genus,n\n{row}\n", tmp_path, levels=["genus"])
    for other in ("site", "part", "splitting", "grouping", "set"):
        assert Table(table(tmp_path, f"path,label,{other}\n{row}\n"), test_fraction=0).splits == ("train",)


@pytest.mark.parametrize("column", ["PATH", "file", "file_name", "Image", "img", "filename"])
def test_the_column_of_paths_is_found_under_its_usual_names(tmp_path, column):
    text = f"{column},label\na.jpg,x\nb.jpg,y\n"
    source = Table(table(tmp_path, text), test_fraction=0)
    assert seen(source, "train") == {"a.jpg": ("x",), "b.jpg": ("y",)}
    assert source.records("train")[1].path == str(tmp_path / "b.jpg")


def test_an_export_of_label_studio_is_read_as_it_is(tmp_path):
    rows = ["/data/local-files/?d=birds/a%20b.jpg,1,x,me", "https://here/data/local-files/?d=birds/c.jpg,2,y,me"]
    text = "\n".join(["image,id,choice,annotator", *rows]) + "\n"
    (tmp_path / "birds").mkdir()
    for name in ("a b.jpg", "c.jpg"):
        (tmp_path / "birds" / name).write_bytes(b"")
    source = Table(table(tmp_path, text, files=False), label_column="choice", test_fraction=0)
    assert [record.path for record in source.records("train")] == [
        str(tmp_path / f"birds/{n}.jpg") for n in ("a b", "c")
    ]
    text += "/data/local-files/?d=birds%2Fc.jpg,3,y,me\n"
    assert "row 4: 'birds/c.jpg' is already in row 3; keep one" in said(text, tmp_path, False, label_column="choice")
    text = "image,label\nhttps://x.org/a.jpg,x\n"
    assert "row 2: 'https://x.org/a.jpg' is an address, not a file; download" in said(text, tmp_path, False)


def test_a_column_of_paths_that_is_not_found_is_named_with_its_flag(tmp_path):
    flag = "give --data.source.path_column"
    assert f"no column 'path'; it has ['foto', 'label']; {flag} foto" in said("foto,label\na.jpg,x\n", tmp_path)
    both = said("file,image,label\na.jpg,b.jpg,x\n", tmp_path)
    assert f"columns 'file' and 'image' could be the paths; {flag} file or another" in both
    source = Table(table(tmp_path, "file,image,label\na.jpg,3,x\n"), path_column="file", test_fraction=0)
    assert seen(source, "train") == {"a.jpg": ("x",)}


@pytest.mark.parametrize("word", ["NaN", "nan", "None", "null", "N/A", "-"])
def test_a_label_that_says_nothing_is_known_is_refused(tmp_path, word):
    text = f"path,label\na.jpg,x\nb.jpg,{word}\n"
    assert said(text, tmp_path) == (
        f"{tmp_path / 'birds.csv'} row 3: {word!r} in column 'label' is no name; name a class or remove the row, or "
        f"give real_labels: [{word!r}] if it is a class"
    )
    source = Table(table(tmp_path, text), real_labels=[word], test_fraction=0)
    assert set(source.taxonomy.names("class")) == {word, "x"}
    levels = f"path,genus,species\na.jpg,Larus,canus\nb.jpg,Larus,{word}\n"
    assert "row 3" in said(levels, tmp_path, levels=["genus", "species"])
    assert "leave the cell empty" in said(levels, tmp_path, levels=["genus", "species"])


def test_a_group_that_says_nothing_is_known_is_refused(tmp_path):
    assert "row 3: 'NaN' in column 'group' would make one group" in said(
        "path,label,group\na.jpg,x,1\nb.jpg,x,NaN\n", tmp_path
    )


@pytest.mark.parametrize(
    ("one", "other"), [("Cardinal", "cardinal"), ("Herring Gull", "Herring_Gull"), ("\ufb01nch", "finch")]
)
def test_two_spellings_of_one_class_are_refused(tmp_path, one, other):
    text = f"path,label\na.jpg,{one}\nb.jpg,{other}\nc.jpg,{other}\n"
    message = said(text, tmp_path, test_fraction=0)
    assert f"{one!r} (1)" in message and f"{other!r} (2)" in message and "similar_labels: true" in message
    assert Table(table(tmp_path, text), test_fraction=0, similar_labels=True).taxonomy.num_classes == 2
