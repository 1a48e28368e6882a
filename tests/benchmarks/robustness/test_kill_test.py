import pytest
import torch

from benchmarks.robustness import kill_test


def stored(folder, weight, momentum, epoch=0, name="w"):
    (folder / "checkpoints").mkdir(parents=True)
    state = {
        "epoch": epoch,
        "state_dict": {name: torch.tensor([1.0, weight])},
        "optimizer_states": [{"state": {0: {"exp_avg": torch.tensor([momentum])}}}],
        "callbacks": {"timer": {"score": torch.tensor(float(epoch))}},
    }
    torch.save(state, folder / "checkpoints/last.ckpt")
    return folder


@pytest.mark.parametrize(
    ("weight", "momentum", "count"), [(2.0, 3.0, 0), (2.0 + 2**-22, 3.0, 1), (2.0, 4.0, 1), (0.0, 0.0, 2)]
)
def test_a_bit_that_differs_is_seen_in_weights_and_optimizer(tmp_path, weight, momentum, count):
    one = stored(tmp_path / "one", 2.0, 3.0)
    assert kill_test.different(one, stored(tmp_path / "other", weight, momentum, epoch=7)) == count


def test_other_contents_are_no_number(tmp_path):
    one, other = stored(tmp_path / "one", 1.0, 1.0), stored(tmp_path / "other", 1.0, 1.0, name="v")
    with pytest.raises(SystemExit, match=r"different contents: .*state_dict/v"):
        kill_test.different(one, other)


def test_a_file_that_is_not_there_was_never_written(tmp_path):
    assert kill_test.changed(tmp_path / "last.ckpt") == 0
