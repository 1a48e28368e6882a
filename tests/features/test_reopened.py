import json

import pytest
import torch
from fakes.tiny_model import saved
from fakes.tiny_run import make_photos

from fgvc.data.datamodule import FineGrainedData
from fgvc.data.sources.image_folder import ImageFolder
from fgvc.errors import UsageError
from fgvc.features.embedding import embed
from fgvc.features.folder import DESCRIPTION, open_features
from fgvc.features.network import Wishes, read_network
from fgvc.features.reopened import reopened

WISHES = Wishes(
    weights="none", image_size=32, model_args={"drop_rate": 0.2}, mean=[0.4, 0.5, 0.6], std=[0.2, 0.3, 0.2],
    fit="squash", interpolation="bilinear",
)  # fmt: skip


@pytest.fixture
def data(tmp_path):
    return FineGrainedData(
        ImageFolder(str(make_photos(tmp_path / "photos", train=2, val=0, test=0)), ["genus", "species"])
    )


def features_of(network, data, folder, take="prelogits"):
    return embed(network, data, folder, take=take, splits=["train"], device="cpu")


@pytest.mark.parametrize("take", ["prelogits", "pooled"])
def test_a_network_of_timm_comes_back_with_all_that_was_said_of_it(tmp_path, data, take):
    network = read_network("test_resnet", WISHES)
    again, embedder = reopened(features_of(network, data, tmp_path / "f", take))
    images = torch.randint(256, (2, 3, 32, 32), generator=torch.Generator().manual_seed(0))
    assert (again.resize, again.arguments, again.image_size) == (network.resize, network.arguments, 32)
    torch.testing.assert_close(again.module(images).map, network.module(images).map)
    assert embedder.take == take


def test_a_file_of_weights_that_was_moved_is_given(tmp_path, data):
    network = read_network("test_resnet", WISHES)
    torch.save(network.module.net.state_dict(), tmp_path / "before.pth")
    wishes = Wishes(weights=str(tmp_path / "before.pth"), image_size=32)
    folder = features_of(read_network("test_resnet", wishes), data, tmp_path / "f")
    (tmp_path / "before.pth").rename(tmp_path / "after.pth")
    with pytest.raises(UsageError, match=r"before\.pth"):
        reopened(folder)
    assert reopened(folder, str(tmp_path / "after.pth"))[0].timm_name == "test_resnet"


def test_a_model_comes_back_and_a_changed_one_is_refused(tmp_path, data):
    run = saved(tmp_path / "runs" / "birds")
    folder = features_of(read_network(str(run)), data, tmp_path / "f")
    assert reopened(folder)[0].module.taxonomy.num_classes == 5
    moved = run.rename(tmp_path / "moved")
    assert reopened(folder, str(moved))[0].name == "moved"
    other = read_network("test_resnet", Wishes(weights="none", image_size=32))
    folder = features_of(other, data, tmp_path / "g")
    with pytest.raises(UsageError, match=r"moved is not the network that these features are of; give --weights"):
        reopened(folder, str(moved))


def test_a_folder_of_before_arguments_were_noted_opens_where_they_were_the_usual(tmp_path, data):
    folder = features_of(read_network("test_resnet", Wishes(weights="none", image_size=32)), data, tmp_path / "f")
    told = json.loads((folder.path / DESCRIPTION).read_text())
    assert told.pop("arguments") == {"name": "test_resnet"}
    (folder.path / DESCRIPTION).write_text(json.dumps(told))
    assert reopened(open_features(folder.path))[0].arguments == {"name": "test_resnet"}
    network = read_network("test_resnet", Wishes(weights="none", image_size=32))
    assert features_of(network, data, folder.path).description["arguments"] == {"name": "test_resnet"}  # noted now
