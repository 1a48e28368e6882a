import math

import numpy as np
import pytest

from benchmarks.accuracy import planned
from benchmarks.accuracy.vouched import Table
from fgvc.confidence.vouching import threshold


def table(size, wrong, seed=0):
    """Answers of one level that are all as sure and of which a share is wrong."""
    rng = np.random.default_rng(seed)
    correct = rng.random((size, 1)) >= wrong
    return Table(["class"], np.full((size, 1), 0.9999), np.ones(size), correct)


def test_a_draw_counts_half_of_its_images_and_the_other_half_is_the_pilot():
    counts = planned.drawn(table(50, 0.0), 21, np.random.default_rng(0))
    assert (counts.answered[0], counts.pilot_answered[0]) == (10, 11)
    assert threshold(counts, 0.5) is not None and threshold(counts, 0.95) is None  # that takes 45


def test_plans_are_met_more_often_than_not_and_half_of_them_are_not():
    found = planned.measure(table(2000, 0.02), 60, 0.95, sets=60)
    assert found.now == 0 and found.plans > 0.5  # 30 counted answers certify 0.92 at most
    assert found.with_plan > 0.5 > found.with_half and 100 < found.images < 2000
    sure = planned.measure(table(100, 0.0), 200, 0.9, sets=5)
    assert (sure.now, sure.plans) == (1, 0) and math.isnan(sure.images) and math.isnan(sure.with_plan)


def test_a_model_that_errs_too_often_makes_no_plan():
    assert planned.measure(table(500, 0.4), 100, 0.95, sets=5).plans == 0


def test_a_table_that_is_none_is_told_in_one_line(tmp_path, capsys):
    assert planned.main([str(tmp_path / "gone.csv")]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    with pytest.raises(SystemExit):
        planned.main(["--help"])
