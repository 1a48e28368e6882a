import pytest
import torch

from benchmarks.speed import metrics_scale

SMALL = ["--leaves", "60", "--images", "50", "--batch", "16"]


def test_all_images_are_counted_and_the_table_has_its_numbers(monkeypatch, capsys):
    seen = []

    class Counting(metrics_scale.HierarchyMetrics):
        def update(self, scores, labels):
            assert [scores[level].shape[1] for level in self.taxonomy.levels] == list(map(self.taxonomy.size, scores))
            seen.append(len(labels))
            super().update(scores, labels)

    monkeypatch.setattr(metrics_scale, "HierarchyMetrics", Counting)
    generator = torch.get_rng_state()
    assert metrics_scale.main([*SMALL, "--clock", "cpu"]) == 0
    torch.set_rng_state(generator)
    assert seen == [16, 16, 16, 2]
    out = capsys.readouterr().out
    rows = [line for line in out.splitlines() if line.startswith("|")]
    cells = [float(cell) for cell in rows[2].split("|")[1:-1]]
    assert len(cells) == rows[0].count("|") - 1 == 5
    assert min(cells[:3]) > 0 and cells[3] >= 0
    tree = metrics_scale.random_tree(60, 0)
    # Three counts per class, and those of the tree: 7 levels known and right, 3 sums of heights, 6 single ones.
    assert cells[4] == pytest.approx(8 * (3 * tree.num_nodes + 2 * 7 + 3 + 6) / 2**20, rel=0.01)
    assert "full_path 0." in out and "hd@20 " in out


def test_the_tree_has_seven_levels_that_narrow_and_the_leaves_asked_for():
    tree = metrics_scale.random_tree(2000, 1)
    sizes = [tree.size(level) for level in tree.levels]
    assert len(sizes) == 7 and sizes[-1] == 2000
    assert sizes == sorted(set(sizes))
    assert metrics_scale.random_tree(2000, 1) == tree != metrics_scale.random_tree(2000, 2)


def test_impossible_settings_are_refused():
    for words in (["--leaves", "0"], ["--batch", "-1"], ["--clock", "sun"]):
        with pytest.raises(SystemExit, match="2"):
            metrics_scale.main(words)
