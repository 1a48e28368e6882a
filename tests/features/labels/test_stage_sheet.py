import numpy as np
import pytest
from PIL import Image

from fgvc.features.folder import Part
from fgvc.features.labels import stage_sheet as file
from fgvc.features.labels.curriculum import Curriculum
from fgvc.features.labels.stage_sheet import stage_sheet, write_sheets
from fgvc.taxonomy.tree import Taxonomy

GREY = (90, 90, 90)


@pytest.fixture
def photos(tmp_path):
    """Pictures of one colour each: grey ones, but for 5.png, which is red; 6.png is no picture."""
    for i in range(50):
        colour = (250, 10, 10) if i == 5 else GREY
        Image.new("RGB", (60, 60), colour).save(tmp_path / f"{i}.png")
    (tmp_path / "6.png").write_bytes(b"none")
    return tmp_path


def runs(pixels, colour):
    """Return the first row and the height of each run of rows that begin with a colour."""
    column = (np.abs(pixels[:, 2].astype(int) - Image.new("RGB", (1, 1), colour).getpixel((0, 0))).sum(axis=1)) < 8
    edges = np.flatnonzero(np.diff(np.r_[0, column.astype(int), 0]))
    return [(int(a), int(b - a)) for a, b in zip(edges[::2], edges[1::2], strict=True)]


def test_each_stage_begins_with_a_band_and_shows_its_photographs_in_order(photos):
    paths = [f"{i}.png" for i in range(50)]
    share = np.linspace(1, 0.02, 50)
    pixels = stage_sheet("A > b", [range(10), [], range(10, 50)], paths, share, str(photos))
    bands = {colour: runs(pixels, colour) for colour in (file.GREEN, file.BLUE, file.RED)}
    assert [len(found) for found in bands.values()] == [1, 0, 1]  # the empty stage has none
    assert bands[file.GREEN][0] == (0, 34)
    start = bands[file.RED][0][0]
    tile = 144 + round(144 * 0.18) + 10
    assert start == 34 + 2 * tile + 10  # two rows of photographs
    assert len(pixels) == start + 34 + 4 * tile + 10  # 32 of the 40
    red = (np.abs(pixels.astype(int) - (250, 10, 10)).sum(axis=2) < 20).nonzero()
    assert red[0].min() > 34 and red[0].max() < 34 + tile and red[1].min() >= 10 + 5 * 154  # the sixth of the first row


def test_what_cannot_be_read_is_an_empty_square(photos):
    pixels = stage_sheet("b", [[6], [], []], ["x.png"] * 6 + ["6.png"], np.ones(7), str(photos))
    assert (np.abs(pixels[60:150, 20:140].astype(int) - (250, 250, 247)).sum(axis=2) == 0).all()
    assert pixels.shape[1] == 800


def test_every_class_has_a_sheet_of_its_name(photos):
    tree = Taxonomy(["genus", "species"], [["Larus", "canus / x"], ["Larus", "fuscus"], ["Sterna", "hirundo"]])
    part = Part([f"{i}.png" for i in range(6)], np.array([0, 0, 1, -1, 1, 3], dtype=np.int32), np.zeros((6, 2)))
    found = Curriculum(np.array([1.0, 2, 1, np.nan, 1, 0]), np.array([1, 0, 0, -1, 0, 0], dtype=np.int8))
    with np.errstate(divide="raise", invalid="raise"):
        assert write_sheets(photos / "sheets", part, found, tree, str(photos)) == 3
    names = sorted(path.name for path in (photos / "sheets").iterdir())
    assert names == ["0000-canus_x.jpg", "0001-fuscus.jpg", "0003-Larus.jpg"]
