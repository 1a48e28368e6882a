import base64
import io

import numpy as np
from fakes.fake_run import rows_of, write
from PIL import Image, ImageColor

from fgvc.files.answer_table import read_answers
from fgvc.report.photographs import COLOURS, SIDE, thumbnails

ROWS = [row | {"boxes": "[[0.25, 0.25, 0.75, 0.75], [0, 0, 2, 2]]"} for row in rows_of()]


def shown(tmp_path, rows):
    answers = read_answers(write(tmp_path / "run", ROWS) / "predictions_test.csv")
    for row in rows:
        path = tmp_path / "photos" / answers.paths[row]
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (300, 200), (row, 0, 200)).save(path)
    addresses, error = thumbnails(answers, [2, 3], tmp_path / "photos")
    pictures = {row: Image.open(io.BytesIO(base64.b64decode(text.split(",")[1]))) for row, text in addresses.items()}
    return pictures, error


def test_boxes_are_drawn_where_the_model_looked(tmp_path):
    pictures, error = shown(tmp_path, [2, 3])
    assert error == "" and list(pictures) == [2, 3]
    assert pictures[2].size == (SIDE, round(SIDE * 2 / 3))
    pixels = np.asarray(pictures[2]).astype(int)
    height, width, _ = pixels.shape
    frame = np.abs(pixels - ImageColor.getrgb(COLOURS[0])).max(axis=2) < 60
    assert frame[height // 4 : 3 * height // 4, width // 4 + 2].mean() > 0.7
    assert not frame[height // 2, width // 3 : 2 * width // 3].any()


def test_a_missing_photograph_is_left_out_and_told(tmp_path):
    pictures, error = shown(tmp_path, [3])
    assert list(pictures) == [3]
    assert "herring gull/2.png" in error
