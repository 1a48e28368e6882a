import numpy as np
import pytest
from fakes.tiny_run import make_photos

from benchmarks.accuracy import label_audit
from fgvc.__main__ import main
from fgvc.features.folder import open_features


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    home = tmp_path_factory.mktemp("home")
    make_photos(home / "photos", train=40, val=0, test=2, noise=30)
    words = ["--weights", "none", "--image_size", "32", "--device", "cpu"]
    words += ["--data.source.levels", "[genus, species]", "--data.val_fraction", "0"]
    assert main(["embed", "test_resnet", str(home / "photos"), *words, "--output", str(home / "features")]) == 0
    return open_features(home / "features")


def test_the_noises_are_made_of_the_features_labels(folder):
    noises = label_audit.noises(folder.taxonomy, 0)
    assert noises["strangers 33 %"].classes == ["3-3"]
    uniform, strange = (label_audit.made(folder, noises[name]) for name in ("uniform 40 %", "strangers 33 %"))
    labels = uniform.images.labels.numpy()
    assert (labels != uniform.true).sum() == 48 and not uniform.strange.any()
    assert (strange.strange == (strange.true == 2)).all()
    assert set(strange.images.labels.tolist()) == {0, 1}
    assert np.isclose(strange.strange.mean(), 1 / 3)


def test_a_row_tells_what_the_rule_found(folder):
    rows = {
        tuple(row.split(" | ")[1:6:4]): row.strip("| ").split(" | ") for row in label_audit.rows("f", folder, 0, 0.01)
    }
    head = label_audit.HEAD.splitlines()[0].strip("| ").split(" | ")
    assert len(rows) == 16 and all(len(cells) == len(head) for cells in rows.values())
    # colours that are told apart without a mistake: the published rules find most of the 48 wrong labels of 120
    found = dict(zip(head, rows["uniform 40 %", "both"], strict=True))
    assert found["wrong"] == "40.0 %"
    assert float(found["precision"].split()[0]) > 80 and float(found["recall"].split()[0]) > 80  # of 40 by chance
    assert dict(zip(head, rows["none", "random"], strict=True))["suspects"] == "0"
