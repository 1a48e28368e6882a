import pytest
import timm
import torch
from safetensors.torch import save_file

from benchmarks.experiments import mark_size
from fgvc.taxonomy.tree import Taxonomy


def test_accuracies_are_counted_per_level():
    tree = Taxonomy(("genus", "species"), [("a", "a1"), ("a", "a2"), ("b", "b1")])
    # The best species of the second picture is b1 (0.4), the best genus is a (0.3 + 0.3).
    shares = torch.tensor([[0.6, 0.3, 0.1], [0.3, 0.3, 0.4], [0.1, 0.7, 0.2], [0.1, 0.2, 0.7]])
    found = mark_size.accuracies(shares.log(), torch.tensor([0, 0, 0, 0]), tree)
    assert found == {"genus": 0.75, "species": 0.25}


def test_a_row_per_size_and_the_difference_are_printed(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("FGVC_CACHE", str(tmp_path / "cache"))
    weights = tmp_path / "weights.safetensors"
    save_file(timm.create_model("test_resnet").state_dict(), weights)
    words = f"--backbone test_resnet --weights {weights} --sizes 32 64 --mark-size 0.06 --epochs 1 --batch-size 8"
    assert mark_size.main([*words.split(), "--train-per-class", "1", "--test-per-class", "1"]) == 0
    captured = capsys.readouterr()
    rows = [line.split("|") for line in captured.out.splitlines() if line.startswith(("| 32 |", "| 64 |"))]
    assert len(rows) == 2
    species = [float(row[3]) for row in rows]
    assert f"species: {species[1] - species[0]:+.1f} points from 32 to 64 px" in captured.out.splitlines()[-1]
    with_head = len(timm.create_model("test_resnet").state_dict())
    assert f"weights: {with_head - 2} of {with_head} tensors" in captured.err, "all but the head are loaded"


@pytest.mark.parametrize("word", ["--sizes", "--backbone"])
def test_help_names_the_options(word, capsys):
    with pytest.raises(SystemExit, match="0"):
        mark_size.main(["--help"])
    assert word in capsys.readouterr().out
