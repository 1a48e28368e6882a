import shutil
from pathlib import Path

import numpy as np
import pytest
from fakes.tiny_run import make_photos, read_csv
from PIL import Image, ImageOps

from fgvc.__main__ import main
from fgvc.features import network
from fgvc.features.folder import open_features

LEVELS = ["--data.source.levels", "[genus, species]", "--data.val_fraction", "0"]
NET = ["--weights", "none", "--image_size", "32", "--device", "cpu"]
LEAST = 0.9999


@pytest.fixture
def photos(tmp_path, monkeypatch):
    """Photographs with planted copies: one mirrored in test, one re-encoded under another label, one in its class."""
    monkeypatch.chdir(tmp_path)
    made = make_photos(tmp_path / "photos", train=4, val=0, test=2).relative_to(tmp_path)
    canus, hirundo = made / "train/Larus/Larus canus", made / "train/Sterna/Sterna hirundo"
    for i in range(4):  # of one colour with stripes, so that they differ from each other and from their mirror images
        stripes = np.zeros((40, 48, 3), np.uint8)
        stripes[:, : 6 + 10 * i, i % 3] = 255
        Image.fromarray(stripes).save(canus / f"train{i}.png")
    with Image.open(canus / "train0.png") as one:
        ImageOps.mirror(one).save(made / "test/Larus/Larus canus/mirrored.png")
    with Image.open(canus / "train1.png") as one:
        one.save(hirundo / "wrong.png", compress_level=0)
    with Image.open(canus / "train2.png") as one:
        one.save(canus / "harmless.png", compress_level=0)
    shutil.copy(canus / "train3.png", made / "test/Larus/Larus canus/bytes.png")
    return made


def verify(capsys, *words):
    capsys.readouterr()
    code = main(["data", "verify", *map(str, words), *LEVELS])
    out, err = capsys.readouterr()
    return code, out, err.replace("\r", "\n").strip().splitlines()


def by_hand(features, splits=("train", "test")):
    """Return the pairs above LEAST across splits or labels whose files differ, by plain loops in float64."""
    rows = []
    for split in splits:
        whole, flip = features.part(split), features.part(split, "flip")
        for i, path in enumerate(whole.paths):
            rows.append((split, path, whole.labels[i], whole.features[i].astype(float), flip.features[i].astype(float)))
    found = set()
    for b, (split, path, label, vector, _) in enumerate(rows):
        for other_split, other, other_label, first, mirrored in rows[:b]:
            best = max(vector @ v / np.linalg.norm(vector) / np.linalg.norm(v) for v in (first, mirrored))
            same_bytes = Path("photos", path).read_bytes() == Path("photos", other).read_bytes()
            if best >= LEAST and (split != other_split or label != other_label) and not same_bytes:
                found.add((split, f"photos/{path}", f"photos/{other}"))
    return found


def near_rows(file):
    return [row for row in read_csv(Path(file)) if row["problem"].startswith("near_")]


def test_planted_copies_are_told_with_their_pictures(photos, capsys):
    main(["embed", "test_resnet", str(photos), *NET, *LEVELS, "--views", "whole,flip", "--output", "f"])
    words = [photos, "--near_duplicates", "f", "--near_duplicates_from", LEAST]
    code, out, err = verify(capsys, *words, "--output", "p.csv", "--sheet", "p.png")
    rows = near_rows("p.csv")
    told = {(row["split"], row["path"], row["detail"].split(" as ")[1].rpartition(" in ")[0]) for row in rows}
    assert code == 1 and told == by_hand(open_features("f")) and len(rows) == len(told)
    mirrored = next(row for row in rows if row["path"].endswith("mirrored.png"))
    canus = "photos/train/Larus/Larus canus"
    assert (mirrored["problem"], mirrored["split"], mirrored["label"]) == ("near_in_two_splits", "test", "Larus canus")
    assert mirrored["detail"] == f"nearly the same as {canus}/train0.png in train (cosine 1.000, mirrored)"
    wrong = next(row for row in rows if row["path"].endswith("wrong.png") and "train1.png" in row["detail"])
    assert (wrong["problem"], wrong["split"], wrong["label"]) == ("near_two_labels", "train", "Sterna hirundo")
    assert wrong["detail"] == (f"nearly the same as {canus}/train1.png in train, labelled Larus canus (cosine 1.000)")
    assert not any(row["path"].endswith("harmless.png") for row in rows)
    copies = [row["problem"] for row in read_csv(Path("p.csv")) if row["path"].endswith("bytes.png")]
    assert copies == ["in_two_splits"]  # by its bytes alone
    assert "near_in_two_splits" in out and err[-1].endswith("-> p.csv, p.png")
    with Image.open("p.png") as sheet:
        height = sheet.height
    assert height == 192 // 14 + min(len(rows), 24) * (192 + round(192 * 0.18) + 192 // 14)


def test_a_network_computes_the_features_and_a_broken_photograph_is_left_out(photos, capsys, monkeypatch):
    (photos / "test/Larus/Larus canus/broken.png").write_bytes(b"no picture")
    read = network.read_network
    wishes = network.Wishes(weights="none", image_size=32)
    monkeypatch.setattr(network, "read_network", lambda name: read(name, wishes))
    words = [photos, "--near_duplicates", "test_resnet", "--near_duplicates_from", LEAST, "--output", "p.csv"]
    code, _, err = verify(capsys, *words)
    assert code == 1 and any("1 photograph have no features" in line for line in err)
    features = open_features("features/test_resnet-photos-near_duplicates")
    assert features.views == ("whole", "flip") and len(near_rows("p.csv")) == len(by_hand(features)) > 1


def test_without_mirror_images_it_is_told_that_those_are_not_found(photos, capsys):
    main(["embed", "test_resnet", str(photos), *NET, *LEVELS, "--output", "f"])
    words = [photos, "--near_duplicates", "f", "--near_duplicates_from", LEAST]
    _, _, err = verify(capsys, *words, "--output", "p.csv")
    assert any("no view flip, so mirrored copies are not found" in line for line in err)
    assert not any("mirrored)" in row["detail"] for row in near_rows("p.csv"))


def test_what_does_not_fit_is_refused_in_one_line(photos, capsys):
    main(["embed", "test_resnet", str(photos), *NET, *LEVELS, "--output", "f"])
    other = make_photos(photos.parent / "other", train=1, val=0, test=1)
    code, _, err = verify(capsys, other, "--near_duplicates", "f")
    assert code == 2 and "f: holds features of other photographs than the 6 of train, test" in err[-1]
    code, _, err = verify(capsys, photos, "--near_duplicates", "test_resent")
    assert code == 2 and "neither the folder of a model nor a network of timm; did you mean" in err[-1]
    code, _, err = verify(capsys, photos, "--near_duplicates", "f", "--near_duplicates_from", "90")
    assert code == 2 and "--near_duplicates_from 90: a cosine, from -1 to 1" in err[-1]
    code, _, err = verify(capsys, photos, "--sheet", "p.png")
    assert code == 2 and "it shows near duplicates; give --near_duplicates FEATURES too" in err[-1]
