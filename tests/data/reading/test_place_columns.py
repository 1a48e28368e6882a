import pytest
from PIL import Image

from fgvc.data.sources.table import Table
from fgvc.errors import UsageError

HEADER = "path,label,split,box_x1,box_y1,box_x2,box_y2,point_left eye_x,point_left eye_y,point_beak_x,point_beak_y"


def table(folder, *rows, header=HEADER, **options):
    folder.mkdir(exist_ok=True)
    for name in ("a.png", "b.png", "c.png", "a.jpg"):
        Image.new("RGB", (40, 20)).save(folder / name)
    (folder / "birds.csv").write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")
    return Table(str(folder / "birds.csv"), **options)


def test_pixels_of_the_upright_photograph_become_fractions_of_it(tmp_path):
    source = table(
        tmp_path,
        "a.png,gull,train,10,5,30,15,20,10,,",
        "b.png,duck,train,,,,,,,1,2",
        "c.png,gull,test,-4,0,44,20,,,,",
    )
    assert source.point_names == ("left eye", "beak")
    found = source.annotations("train", 0)
    assert found.boxes == {"object": (0.25, 0.25, 0.75, 0.75)} and found.points == {"left eye": (0.5, 0.5)}
    assert source.annotations("train", 1).boxes == {} and source.annotations("train", 1).points == {
        "beak": (0.025, 0.1)
    }
    assert source.annotations("test", 0).boxes == {"object": (0.0, 0.0, 1.0, 1.0)}  # cut at the edge


def test_a_turned_photograph_is_measured_upright(tmp_path):
    source = table(tmp_path, "a.jpg,gull,train,5,10,15,30,,,,", "b.png,duck,train,,,,,,,,", "c.png,duck,test,,,,,,,,")
    exif = Image.Exif()
    exif[0x0112] = 6  # lies on its side
    Image.new("RGB", (40, 20)).save(tmp_path / "a.jpg", exif=exif)
    assert source.annotations("train", 0).boxes == {"object": (0.25, 0.25, 0.75, 0.75)}


def test_fractions_need_no_photograph(tmp_path):
    source = table(
        tmp_path,
        "a.png,gull,train,0.1,0.2,0.3,0.4,0.5,0.6,,",
        "b.png,gull,test,,,,,,,,",
        places="fractions",
    )
    (tmp_path / "a.png").unlink()
    found = source.annotations("train", 0)
    assert found.boxes == {"object": (0.1, 0.2, 0.3, 0.4)} and found.points == {"left eye": (0.5, 0.6)}


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ("a.png,gull,train,1,2,three,4,,,,", r"row 2: 'three' in column 'box_x2' is no number"),
        ("a.png,gull,train,1,2,,4,,,,", r"row 2: '' in column 'box_x2' is no number; leave .* all empty"),
        ("a.png,gull,train,5,2,5,4,,,,", r"row 2: the box .* is empty"),
        ("a.png,gull,train,,,,,3,nan,,", r"row 2: 'nan' in column 'point_left eye_y' is not a finite number"),
    ],
)
def test_a_cell_that_is_no_place_is_named(tmp_path, row, said):
    with pytest.raises(UsageError, match=said) as caught:
        table(tmp_path, row, "b.png,gull,test,,,,,,,,")
    assert "\n" not in str(caught.value)


def test_fractions_are_told_from_pixels_and_half_a_pair_of_columns_is_named(tmp_path):
    with pytest.raises(
        UsageError, match=r"'30' in column 'box_x1' is not a fraction from 0 to 1; or give places: pixels"
    ):
        table(tmp_path, "a.png,gull,train,30,5,40,15,,,,", "b.png,gull,test,,,,,,,,", places="fractions")
    with pytest.raises(UsageError, match=r"column 'point_eye_x' but not 'point_eye_y'"):
        table(tmp_path, "a.png,gull,train,3", header="path,label,split,point_eye_x")
    with pytest.raises(UsageError, match=r"box_x1.* but not \['box_x2', 'box_y2'\]"):
        table(tmp_path, "a.png,gull,train,3,4", header="path,label,split,box_x1,box_y1")


def test_a_table_without_such_columns_knows_nothing(tmp_path):
    source = table(tmp_path, "a.png,gull,train", "b.png,gull,test", header="path,label,split")
    assert source.point_names == () and source.annotations("train", 0).boxes == {}
