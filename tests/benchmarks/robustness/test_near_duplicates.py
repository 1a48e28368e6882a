import re

import numpy as np
from fakes.tiny_run import make_photos
from PIL import Image

from benchmarks.robustness import near_duplicates


def test_the_share_of_a_report_is_that_of_the_pairs(capsys):
    found = [(("0", ""), ("0", "resized"), 0.93), (("0", "mirrored"), ("0", ""), 0.99), (("0", ""), ("1", ""), 0.95)]
    found += [(("1", "resized"), ("1", ""), 0.81), (("2", "resized"), ("0", ""), 0.99)]
    near_duplicates.report(found, planted=4, photographs=500)
    rows = dict(re.findall(r"^\| ([\d.]+) \| (.*) \|$", capsys.readouterr().out, re.MULTILINE))
    assert rows["0.8"] == "50 % | 0 % | 0 % | 25 % | 2.0"
    assert rows["0.94"] == "0 % | 0 % | 0 % | 25 % | 2.0" and rows["0.98"] == "0 % | 0 % | 0 % | 25 % | 0.0"


def test_copies_are_altered_as_they_say(tmp_path):
    pixels = np.arange(100 * 200 * 3).reshape(100, 200, 3).astype(np.uint8)
    photograph = Image.fromarray(pixels)
    assert near_duplicates.altered(photograph, "resized").size == (100, 50)
    assert (np.asarray(near_duplicates.altered(photograph, "mirrored")) == pixels[:, ::-1]).all()
    assert (np.asarray(near_duplicates.altered(photograph, "cropped")) == pixels[4:94, 4:184]).all()


def test_the_benchmark_runs_on_a_few_photographs(tmp_path, capsys):
    photos = make_photos(tmp_path / "photos", train=2, val=0, test=0, noise=120)
    for path in sorted(photos.rglob("*.png")):
        with Image.open(path) as one:
            one.save(path.with_suffix(".jpg"))
    words = [
        "--model",
        "test_resnet",
        "--weights",
        "none",
        "--image_size",
        "32",
        "--photographs",
        "5",
        "--planted",
        "2",
    ]
    assert near_duplicates.main([str(photos), *words]) == 0
    out = capsys.readouterr().out
    assert "cosines of the features" in out and "their mean taken off first" in out and "| 0.9 |" in out
