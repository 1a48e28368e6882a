import numpy as np
import yaml

from benchmarks.accuracy import noisy_labels as script


def test_the_table_says_gain_interval_and_share_of_the_way(capsys):
    plain, better, oracle = np.zeros(100), np.zeros(100), np.zeros(100)
    plain[:50], better[:65], oracle[:80] = 1, 1, 1
    script.show("uniform 40 %", {"plain": [plain, plain], "better": [better, plain], "oracle": [oracle, oracle]})
    lines = capsys.readouterr().out.splitlines()
    assert lines[1] == "| uniform 40 % | seeds | mean | over plain | 95 % | share of the way |"
    name, seeds, mean, gain, interval, way = (cell.strip() for cell in lines[4].strip("|").split("|"))
    assert (name, seeds, mean, gain, way) == ("better", "65.0, 50.0", "57.5", "+7.5", "25 %")
    low, high = map(float, interval.split(" to "))
    assert 0 < low < 7.5 < high < 15


def test_staged_and_plain_trainings_have_equal_epochs():
    assert sum(phase["epochs"] for phase in yaml.safe_load(script.STAGED)) == script.EPOCHS
    assert {"plain", "oracle"} <= script.METHODS.keys()
