import errno
import resource

import pytest
import torch
from fakes.tiny_model import PLAIN, TAXONOMY

from fgvc.errors import FgvcError
from fgvc.model_file.architecture import build
from fgvc.taxonomy.tree import Taxonomy
from fgvc.training.checkpoints import WholeCheckpointIO, load_weights, read


def recognizer(seed: int, taxonomy: Taxonomy = TAXONOMY):
    torch.manual_seed(seed)
    return build(PLAIN, taxonomy, 32, weights="none")


@pytest.fixture
def path(tmp_path):
    """Write a checkpoint as Lightning does: the recognizer beside other state of the module."""
    state = {f"recognizer.{key}": value for key, value in recognizer(1).state_dict().items()}
    torch.save({"epoch": 3, "state_dict": {**state, "metrics.count": torch.zeros(2)}}, tmp_path / "last.ckpt")
    return tmp_path / "last.ckpt"


def refusal(path) -> str:
    with pytest.raises(FgvcError) as caught:
        load_weights(recognizer(0), path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_the_recognizers_weights_are_taken_and_the_rest_is_left(path):
    model, expected = recognizer(0), recognizer(1).state_dict()
    assert not torch.equal(model.head.classifier.weight, expected["head.classifier.weight"])
    load_weights(model, path)
    assert all(torch.equal(value, expected[key]) for key, value in model.state_dict().items())


def test_a_file_that_is_no_checkpoint_is_one_line(path):
    whole = path.read_bytes()
    for content in (whole[: len(whole) // 2], b"", b"text"):
        path.write_bytes(content)
        assert "no checkpoint that can be read" in refusal(path)
    for state in ({"epoch": 3}, [1, 2], {"state_dict": 3}):
        torch.save(state, path)
        assert "no checkpoint that can be read" in refusal(path)
    path.unlink()
    assert "No such file" in refusal(path)


class Bomb:
    def __reduce__(self):
        return (print, ("exploded",))


def test_a_checkpoint_that_holds_code_is_refused_and_runs_nothing(path, capsys):
    torch.save({"state_dict": {}, "extra": Bomb()}, path)
    assert "no checkpoint that can be read" in refusal(path)
    assert "exploded" not in capsys.readouterr().out


def test_a_checkpoint_of_other_classes_does_not_fit(path):
    with pytest.raises(FgvcError, match=r"does not fit the model of the config.*size mismatch") as caught:
        load_weights(recognizer(0, Taxonomy.flat("ab")), path)
    assert "\n" not in str(caught.value)


def test_a_checkpoint_is_whole_or_the_former_one(tmp_path, monkeypatch):
    target = tmp_path / "run" / "checkpoints" / "last.ckpt"
    writer = WholeCheckpointIO()
    writer.save_checkpoint({"state_dict": {"x": torch.ones(3)}}, target)
    before = target.read_bytes()
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
    try:
        with pytest.raises(FgvcError) as caught:
            writer.save_checkpoint({"state_dict": {"x": torch.ones(100_000)}}, target)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)
    assert str(caught.value) == (
        f"{target}: the checkpoint cannot be written (File too large); the one before it is whole; "
        f"make room, then fgvc fit --resume {tmp_path / 'run'}"
    )
    assert target.read_bytes() == before
    assert [entry.name for entry in target.parent.iterdir()] == ["last.ckpt"]
    assert torch.equal(read(target)["state_dict"]["x"], torch.ones(3))


def test_a_full_disk_is_told_apart_from_a_large_file(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(
        FgvcError, match=r"\(No space left on device\); there is none before it; make room, then start the run again"
    ):
        WholeCheckpointIO().save_checkpoint({}, tmp_path / "run/checkpoints/last.ckpt")


@pytest.mark.parametrize("content", [{"epoch": 1}, [1, 2], {"state_dict": 3}])
def test_a_file_without_weights_is_no_checkpoint(tmp_path, content):
    torch.save(content, tmp_path / "x.ckpt")
    with pytest.raises(FgvcError, match=r"x.ckpt: no checkpoint that can be read \(no weights in it\)$"):
        read(tmp_path / "x.ckpt")
