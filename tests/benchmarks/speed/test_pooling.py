import subprocess
import sys
from pathlib import Path

import pytest
import torch

from benchmarks.speed import pooling

REPO = Path(__file__).parents[3]
TINY = ["--channels", "6", "--side", "5", "--batch", "2", "--reduced", "4", "--width", "5", "--threads", "1"]
TINY += ["--steps", "1", "--rounds", "1"]


def test_every_pooling_has_its_row():
    words = [sys.executable, "-m", "benchmarks.speed.pooling", *TINY]
    out = subprocess.run(words, check=True, stdout=subprocess.PIPE, text=True, cwd=REPO).stdout
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in out.splitlines() if line.startswith("|")]
    assert len({len(row) for row in rows}) == 1
    assert [row[0] for row in rows[2:]] == list(pooling.PAIRS)
    assert all(float(cell) > 0 for row in rows[2:] for cell in row[2:5] + row[8:])


@pytest.mark.parametrize("name", pooling.PAIRS)
def test_the_plain_version_gives_the_same_answer_and_gradient(name):
    args = pooling.arguments(TINY)
    found = []
    for which in ("ours", "plain"):
        part, features = pooling.pooling_and_map(name, 6, which, args)
        answer = part(features)
        (answer * torch.linspace(-1, 1, answer.shape[1])).sum().backward()
        found.append((answer.detach(), features.grad))
    torch.testing.assert_close(found[0], found[1], rtol=1e-3, atol=1e-5)


def test_what_autograd_keeps_of_the_plain_bilinear_pooling_is_known():
    args = pooling.arguments(TINY)
    assert pooling.kept_by("BilinearPooling", 6, "ours", args) == 4 * 2 * (36 + 1)
    assert pooling.kept_by("BilinearPooling", 6, "plain", args) >= 4 * 2 * 36 * 3
