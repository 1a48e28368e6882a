import pytest

from benchmarks.speed import few_shot

SMALL = (
    "--d 12 --classes 6 --images 8 --ways 3 --shots 2 --queries 3 --episodes 20 --peer_episodes 7 --chunk 8 --rounds 1"
)


def test_every_method_is_timed_and_gives_the_accuracies_of_the_peer(capsys):
    few_shot.main([*SMALL.split(), "--threads", "1"])
    rows = [line.strip("| ").split(" | ") for line in capsys.readouterr().out.splitlines() if line.startswith("| ")][1:]
    assert [row[0] for row in rows] == [
        *("prototypes", "cosine_prototypes", "simple_shot", "matching", "ridge", "tip_adapter")
    ]
    for row in rows:
        others = ["0 of 20", "0 of 7"] if row[3] != "-" else ["0 of 20"]
        assert row[-1].split(", ") == others and float(row[1]) >= 0
    assert sum(row[3] == "-" for row in rows) == 2


def test_numbers_that_make_no_episodes_are_refused(capsys):
    with pytest.raises(SystemExit):
        few_shot.main(["--episodes", "0"])
    assert "must be at least 1" in capsys.readouterr().err
