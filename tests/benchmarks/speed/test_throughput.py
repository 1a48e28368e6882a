import statistics

import pytest

from benchmarks.speed import throughput, throughput_input, throughput_table

pytestmark = [
    # Lightning's advice and its own deprecations; a fork beside PyTorch's threads.
    pytest.mark.filterwarnings("ignore"),
]


def row(out, start):
    (line,) = [line for line in out.splitlines() if line.startswith(start)]
    return line


def test_the_training_table_has_both_loaders(capsys):
    words = "training --backbone test_resnet --image_size 32 --batch_size 4 --steps 2 --rounds 2 --num_workers 1"
    assert throughput.main(words.split()) == 0
    out = capsys.readouterr().out
    for start in ("training, batches in memory", "training, photographs decoded"):
        ours, bare, ratio = map(float, row(out, start)[30:].split()[:3])
        assert ours > 0
        assert bare > 0
        assert ratio > 0
    assert "the loader alone, 1 worker(s):" in out
    assert "torch 2" in out
    assert "cores" in out


def test_the_input_table_names_ratio_and_aim(capsys, tmp_path):
    photos = throughput_input.make_photos(tmp_path, count=3, side=60)
    assert throughput.main(["input", "--image_size", "32", "--rounds", "2", "--photos", str(photos)]) == 0
    assert "1.50" in row(capsys.readouterr().out, "reading and augmenting")


def test_the_ratio_is_the_median_of_the_turns_ratios():
    ours, theirs = [10.0, 30.0, 8.0], [10.0, 10.0, 16.0]
    line = str(throughput_table.Row("x", ours, theirs, 0.97))
    assert statistics.median([1.0, 3.0, 0.5]) == 1.0
    assert "1.000   0.500 to 3.000   0.97 reached" in line


def test_a_folder_without_pictures_is_one_line(capsys, tmp_path):
    assert throughput.main(["input", "--photos", str(tmp_path)]) == 2
    assert capsys.readouterr().err == f"throughput: --photos: no pictures below {tmp_path}\n"


def test_impossible_settings_are_refused(capsys):
    for words in (["--steps", "0"], ["--clock", "cpu", "--accelerator", "gpu"]):
        with pytest.raises(SystemExit, match="2"):
            throughput.main(words)
