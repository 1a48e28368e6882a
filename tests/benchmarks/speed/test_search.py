import re

import numpy as np
import pytest

from benchmarks.speed import search


def test_the_benchmark_says_seconds_memory_and_recall(capsys):
    pytest.importorskip("usearch.index")
    words = ["--gallery", "500", "--queries", "60", "--d", "16", "--threads", "1", "--k", "3"]
    assert search.main([*words, "--graph_queries", "50", "--approximate"]) == 0
    out = capsys.readouterr().out
    assert re.search(r"^exact: \d+\.\d s \(\d+\.\d s of all threads\), \d+ MB above the vectors$", out, re.MULTILINE)
    assert float(re.search(r"recall@3 ([\d.]+)", out)[1]) > 0.9


def test_vectors_of_another_seed_share_the_centres_and_nothing_else():
    one, other = search.made_up(5000, 8, 1, clusters=1), search.made_up(5000, 8, 2, clusters=1)
    assert one.dtype == np.float32 and (one >= 0).all() and not (one == other)[one > 0].any()
    np.testing.assert_allclose(one.mean(axis=0), other.mean(axis=0), atol=0.1)


def test_numbers_below_one_are_refused():
    with pytest.raises(SystemExit):
        search.main(["--k", "0"])
