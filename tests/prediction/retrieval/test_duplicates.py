import numpy as np
import pytest

from fgvc.prediction.retrieval import duplicates, nearest
from fgvc.prediction.retrieval.duplicates import near_duplicates


def cosines(one, other):
    one, other = one.astype(np.float64), other.astype(np.float64)
    return (one @ other.T) / np.linalg.norm(one, axis=1)[:, None] / np.linalg.norm(other, axis=1)


@pytest.mark.parametrize("block", [5, 1000])
@pytest.mark.parametrize("with_mirrors", [False, True])
def test_all_pairs_above_the_cosine_are_found_once(block, with_mirrors, monkeypatch):
    monkeypatch.setattr(nearest, "GALLERY", block)
    monkeypatch.setattr(duplicates, "QUERIES", 8)
    dice = np.random.default_rng(0)
    whole = dice.normal(size=(60, 4)).astype(np.float32)
    mirrored = dice.normal(size=(60, 4)).astype(np.float32)
    plain, flipped = cosines(whole, whole), cosines(whole, mirrored)
    table = np.maximum(plain, flipped) if with_mirrors else plain
    wanted = {(j, i) for i in range(60) for j in range(i) if table[i, j] >= 0.8}
    found = list(near_duplicates(whole, 0.8, mirrored if with_mirrors else None))
    assert len(found) == len(wanted) > 20 and {(one.first, one.second) for one in found} == wanted
    for one in found:
        assert one.cosine == pytest.approx(table[one.second, one.first], abs=1e-9)
        assert one.mirrored == (with_mirrors and flipped[one.second, one.first] > plain[one.second, one.first])


def test_one_photograph_has_no_pair():
    assert list(near_duplicates(np.ones((1, 3), np.float32), 0.5)) == []
