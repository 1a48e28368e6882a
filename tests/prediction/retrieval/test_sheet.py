import numpy as np
from PIL import Image

from fgvc.prediction.retrieval.sheet import ROWS, row_sheet


def test_a_missing_picture_is_an_empty_square_and_rows_keep_their_columns(tmp_path):
    Image.new("RGB", (30, 30), "red").save(tmp_path / "red.png")
    Image.new("RGB", (30, 30), "blue").save(tmp_path / "blue.png")
    red, blue, gone = (str(tmp_path / name) for name in ("red.png", "blue.png", "gone.png"))
    assert row_sheet([[(red, "a"), (gone, "b"), (blue, "c"), (red, "too many")], [(blue, "d")]], 3, tmp_path / "s.png")
    with Image.open(tmp_path / "s.png") as opened:
        sheet = np.asarray(opened)
    step, down = 192 + 192 // 14, 192 + round(192 * 0.18) + 192 // 14
    colours = [[sheet[100 + row * down, 100 + column * step].tolist() for column in range(3)] for row in range(2)]
    paper = sheet[2, 2].tolist()
    assert colours == [[[255, 0, 0], paper, [0, 0, 255]], [[0, 0, 255], paper, paper]]


def test_many_rows_are_cut_and_none_draws_nothing(tmp_path):
    assert not row_sheet([], 2, tmp_path / "none.png") and not (tmp_path / "none.png").exists()
    assert row_sheet([[("gone.png", "x")]] * (ROWS + 5), 1, tmp_path / "many.png")
    with Image.open(tmp_path / "many.png") as opened:
        assert opened.height == 192 // 14 + ROWS * (192 + round(192 * 0.18) + 192 // 14)
