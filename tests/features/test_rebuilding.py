import json
from pathlib import Path

import pytest
import torch
from fakes.tiny_model import saved
from fakes.tiny_run import make_photos

from fgvc.data.datamodule import FineGrainedData
from fgvc.data.sources.image_folder import ImageFolder
from fgvc.errors import UsageError
from fgvc.features.embedding import embed
from fgvc.features.filling import Counts
from fgvc.features.folder import DESCRIPTION, open_features
from fgvc.features.network import Wishes, read_network, state_sha256
from fgvc.features.rebuilding import answers_with_its_embedding, network_of

WISHES = Wishes(weights="none", image_size=32, mean=[0.1, 0.2, 0.3], std=[0.5] * 3, crop_fraction=0.7, fit="squash")


@pytest.fixture
def data(tmp_path):
    photos = make_photos(tmp_path / "photos", train=2, val=0, test=1)
    return FineGrainedData(ImageFolder(str(photos), ["genus", "species"]), num_workers=0, val_fraction=0)


def test_a_network_of_timm_is_made_again_as_it_was_asked_for(data, tmp_path):
    first = read_network("test_resnet", WISHES)
    folder = embed(first, data, tmp_path / "f", device="cpu")
    again = network_of(folder)
    assert again.resize == first.resize and again.image_size == 32
    assert state_sha256(again.module) == state_sha256(first.module)
    images = torch.randint(256, (2, 3, 32, 32))
    with torch.no_grad():
        torch.testing.assert_close(again.module(images).map, first.module(images).map)


def test_a_model_is_found_where_it_was_or_where_one_says(data, tmp_path):
    run = saved(tmp_path / "runs" / "birds")
    folder = embed(read_network(str(run), Wishes(crop_fraction=0.6)), data, tmp_path / "f", device="cpu")
    assert network_of(folder).resize.crop_fraction == 0.6
    run.rename(tmp_path / "moved")
    with pytest.raises(UsageError, match=r"its network cannot be read .*say where it is with --model"):
        network_of(folder)
    assert network_of(folder, str(tmp_path / "moved")).resize.crop_fraction == 0.6


def test_a_file_of_weights_that_was_moved_is_given(data, tmp_path):
    torch.save(read_network("test_resnet", WISHES).module.net.state_dict(), tmp_path / "before.pth")
    wishes = WISHES.__class__(**{**vars(WISHES), "weights": str(tmp_path / "before.pth")})
    folder = embed(read_network("test_resnet", wishes), data, tmp_path / "f", device="cpu")
    (tmp_path / "before.pth").rename(tmp_path / "after.pth")
    with pytest.raises(UsageError, match=r"before\.pth"):
        network_of(folder)
    assert network_of(folder, str(tmp_path / "after.pth")).timm_name == "test_resnet"


def test_other_weights_under_the_same_name_are_refused(data, tmp_path):
    folder = embed(read_network("test_resnet", WISHES), data, tmp_path / "f", device="cpu")
    edit(folder.path, lambda said: said["terms"].update(weights="0" * 64))
    with pytest.raises(
        UsageError, match=r"its weights is \w{8}\.\.\., that of the features 00000000\.\.\.; give the fgvc"
    ):
        network_of(open_features(folder.path))


def test_a_folder_of_an_older_fgvc_says_so_and_the_same_embed_mends_it(data, tmp_path):
    first = read_network("test_resnet", WISHES)
    folder = embed(first, data, tmp_path / "f", device="cpu")
    edit(folder.path, lambda said: said.pop("arguments"))
    with pytest.raises(UsageError, match="an older fgvc did not keep --mean, --std, --model_args"):
        network_of(open_features(folder.path))
    counts = Counts()
    embed(first, data, folder.path, device="cpu", counts=counts)
    assert counts.shown == 0 and network_of(open_features(folder.path)).image_size == 32


def test_only_an_answer_that_carries_what_embed_keeps_is_compared(tmp_path):
    module = read_network(str(saved(tmp_path / "run"))).module
    assert answers_with_its_embedding(module)
    assert not answers_with_its_embedding(read_network("test_resnet", WISHES).module)


def edit(folder, change):
    file = Path(folder, DESCRIPTION)
    said = json.loads(file.read_text())
    change(said)
    file.write_text(json.dumps(said))
