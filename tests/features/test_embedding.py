import json
import os
import subprocess
import sys

import numpy as np
import pytest
import timm
import torch
from fakes.processes import started
from fakes.tiny_run import make_photos
from PIL import Image
from safetensors.torch import save_file

from fgvc.data.datamodule import FineGrainedData
from fgvc.data.sources.base import Annotations
from fgvc.data.sources.image_folder import ImageFolder
from fgvc.errors import FgvcError, UsageError
from fgvc.features import filling
from fgvc.features.embedding import embed
from fgvc.features.filling import Counts
from fgvc.features.folder import open_features
from fgvc.features.network import Wishes, read_network
from fgvc.images.decoding import ImageError
from fgvc.images.resizing import resize_uncut
from fgvc.methods.embedder import Embedder

LEVELS = ["genus", "species"]


@pytest.fixture
def photos(tmp_path):
    return make_photos(tmp_path / "photos", train=4, val=1, test=3)


@pytest.fixture
def weights(tmp_path):
    """A file of weights, and the network of timm that has them."""
    torch.manual_seed(1)  # `none` has seed 0
    net = timm.create_model("test_resnet", num_classes=0).eval()
    save_file(net.state_dict(), tmp_path / "weights.safetensors")
    return tmp_path / "weights.safetensors", net


def open_data(photos, **keys):
    return FineGrainedData(ImageFolder(str(photos), LEVELS), num_workers=0, **keys)


def network(**wishes):
    return read_network("test_resnet", Wishes(**{"weights": "none", "image_size": 32, **wishes}))


def run(photos, folder, of=None, data=None, **keys):
    """Embed; return the folder and what was done."""
    counts = Counts()
    keys = {"batch_size": 4, "device": "cpu", "counts": counts, **keys}
    return embed(of or network(), data or open_data(photos), folder, **keys), counts


def touch(photo, colour):
    """Put another picture in a photograph's place; the time of its change differs from before by a second at least."""
    before = photo.stat()
    Image.new("RGB", (48, 40), colour).save(photo)
    os.utime(photo, ns=(before.st_atime_ns, before.st_mtime_ns + 10**9))


def by_hand(net, paths, root, mirrored=False):
    """Return what timm says of photographs: Pillow reads them, the centre is cut and averaged in a plain loop."""
    mean, std = (torch.tensor(net.pretrained_cfg[key]).view(1, 3, 1, 1) for key in ("mean", "std"))
    rows = []
    for path in paths:
        pixels = np.asarray(Image.open(root / path))[:, 4:44]  # 40 x 48 -> the centred 40 x 40
        pixels = pixels[:, ::-1].copy() if mirrored else pixels
        image = torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None].float()
        with torch.no_grad():
            rows.append(net.forward_head(net.forward_features((image / 255 - mean) / std), pre_logits=True)[0])
    return torch.stack(rows).numpy()


def test_features_are_those_of_a_plain_loop_over_timm(photos, tmp_path, weights):
    file, net = weights
    of = network(weights=str(file), image_size=40, crop_fraction=1.0, interpolation="area")
    features, counts = run(photos, tmp_path / "features", of, views=["whole", "flip"])
    assert (counts.shown, counts.computed, counts.reused, counts.written) == (24, 48, 0, True)
    data = open_data(photos)
    for split in ("train", "val", "test"):
        records = data.records(split)
        for view in ("whole", "flip"):
            part = features.part(split, view)
            assert part.paths == [records.relative_path(i) for i in range(len(records))]
            assert part.labels.tolist() == records.labels.tolist() and part.features.dtype == np.float32
            wanted = by_hand(net, part.paths, photos, mirrored=view == "flip")
            np.testing.assert_allclose(part.features, wanted, rtol=1e-3, atol=1e-5)


def test_the_folder_says_what_it_is_of(photos, tmp_path):
    features, _ = run(photos, tmp_path / "features")
    told = json.loads((tmp_path / "features" / "features.json").read_text())
    assert features.description == told and features.path == tmp_path / "features"
    assert (told["model"], told["network"], told["take"]) == ("test_resnet", "test_resnet", "prelogits")
    assert told["resize"] == {"size": 32, "fit": "crop", "crop_fraction": 1.0, "interpolation": "area"}
    assert told["weights"]["given"] == "none" and len(told["weights"]["sha256"]) == 64
    assert told["shape"] == list(features.part("val").features.shape[1:])
    assert features.taxonomy == open_data(photos).taxonomy
    assert (features.splits, features.views) == (("train", "val", "test"), ("whole",))
    assert sorted(file.name for file in features.path.iterdir()) == [
        "features.json", "test-whole.parquet", "train-whole.parquet", "val-whole.parquet",
    ]  # fmt: skip


def test_the_same_call_again_runs_no_network(photos, tmp_path, monkeypatch):
    run(photos, tmp_path / "features", views=["whole", "flip"])
    before = {file.name: file.stat().st_mtime_ns for file in (tmp_path / "features").iterdir()}
    monkeypatch.setattr(filling, "_features", None)
    _, counts = run(photos, tmp_path / "features", views=["whole", "flip"])
    assert (counts.shown, counts.reused, counts.written) == (0, 48, False)
    assert {file.name: file.stat().st_mtime_ns for file in (tmp_path / "features").iterdir()} == before


@pytest.mark.parametrize("take", ["prelogits", "map"])
def test_only_changed_and_added_photographs_are_computed(photos, tmp_path, take):
    first, _ = run(photos, tmp_path / "features", take=take)
    before = {split: np.array(first.part(split).features) for split in first.splits}
    names = sorted(photos.glob("train/*/*/*.png"))
    touch(names[5], "white")
    Image.new("RGB", (48, 40), "black").save(names[0].with_name("added.png"))
    names[7].unlink()
    again, counts = run(photos, tmp_path / "features", take=take)
    assert (counts.shown, counts.reused, counts.written) == (2, 10 + 12, True)
    whole, _ = run(photos, tmp_path / "whole", take=take)
    for split in first.splits:
        now, wanted = again.part(split), whole.part(split)
        assert now.paths == wanted.paths and now.labels.tolist() == wanted.labels.tolist()
        np.testing.assert_allclose(now.features, wanted.features, rtol=1e-4, atol=1e-5)
    assert (again.part("test").features == before["test"]).all()
    assert not (before["train"][5] == again.part("train").features[6]).all()  # one was added before it
    assert len(list(again.path.glob("*.npy"))) == (3 if take == "map" else 0)


def test_maps_stay_on_the_disk_and_may_take_half_the_room(photos, tmp_path):
    full, _ = run(photos, tmp_path / "full", take="map")
    half, _ = run(photos, tmp_path / "half", take="map", dtype="float16")
    for split in full.splits:
        maps, rounded = full.part(split).features, half.part(split).features
        assert isinstance(maps, np.memmap) and maps.ndim == 4 and maps.dtype == np.float32
        assert rounded.dtype == np.float16 and (rounded == np.array(maps).astype(np.float16)).all()


def test_views_and_splits_are_added_to_what_is_there(photos, tmp_path):
    run(photos, tmp_path / "features", splits=["test"])
    _, counts = run(photos, tmp_path / "features", splits=["train"], views=["flip"])
    assert counts.shown == 12
    features = open_features(tmp_path / "features")
    assert (features.splits, features.views) == (("test", "train"), ("whole", "flip"))
    with pytest.raises(UsageError, match="no view 'whole' of train; it has flip"):
        features.part("train")
    with pytest.raises(UsageError, match="no features of split 'val'; it has test, train"):
        features.part("val")


class Boxed(ImageFolder):
    """An image folder in which the left half of every photograph of val and test is the object."""

    def annotations(self, split, index):
        return Annotations({"object": (0.0, 0.0, 0.5, 1.0)} if split != "train" else {})


def test_the_view_of_the_box_is_the_photograph_that_the_box_holds(photos, tmp_path):
    data = FineGrainedData(Boxed(str(photos), LEVELS), num_workers=0)
    boxed, _ = run(photos, tmp_path / "boxed", data=data, views=["whole", "box"], splits=["test"])
    for photo in photos.glob("*/*/*/*.png"):
        Image.open(photo).crop((0, 0, 40, 40)).save(photo)  # the square around it
    network = read_network("test_resnet", Wishes(weights="none", image_size=32, fit="squash", crop_fraction=1.0))
    cut, _ = run(photos, tmp_path / "cut", splits=["test"], of=network)
    np.testing.assert_allclose(boxed.part("test", "box").features, cut.part("test").features, rtol=1e-4, atol=1e-5)
    assert not np.allclose(boxed.part("test", "box").features, boxed.part("test", "whole").features)


def test_a_photograph_without_box_is_named(photos, tmp_path):
    data = FineGrainedData(Boxed(str(photos), LEVELS), num_workers=0)
    with pytest.raises(UsageError, match=r"train0\.png: no box `object`"):
        run(photos, tmp_path / "boxed", data=data, views=["box"])


@pytest.mark.parametrize(
    ("wishes", "keys", "said"),
    [
        ({"crop_fraction": 0.5}, {}, "with resize size 32, fit crop, crop_fraction 1.0, .* not size 32, .* 0.5"),
        ({"weights": "FILE"}, {}, r"with weights \w{8}\.\.\., not \w{8}\.\.\.; choose another --output"),
        ({}, {"take": "map"}, "with take prelogits, not map"),
    ],
)
def test_another_network_or_preprocessing_is_refused_and_may_replace(photos, tmp_path, weights, wishes, keys, said):
    wishes = {key: str(weights[0]) if value == "FILE" else value for key, value in wishes.items()}
    run(photos, tmp_path / "features", views=["whole", "flip"])
    with pytest.raises(UsageError, match=said):
        run(photos, tmp_path / "features", network(**wishes), **keys)
    features, counts = run(photos, tmp_path / "features", network(**wishes), overwrite=True, **keys)
    assert counts.computed == 24 and features.views == ("whole",)
    assert not list(features.path.glob("*flip*"))


def test_the_folder_of_other_photographs_is_refused(photos, tmp_path):
    run(photos, tmp_path / "features")
    for split in ("train", "val", "test"):
        for photo in list((photos / split).glob("*/*/*.png")):
            photo.rename(photo.with_name(f"other{photo.name}"))
    with pytest.raises(UsageError, match="holds features of other photographs"):
        run(photos, tmp_path / "features")
    _, counts = run(photos, tmp_path / "features", overwrite=True)
    assert counts.computed == 24


def test_a_folder_of_something_else_is_left_alone(photos, tmp_path):
    (tmp_path / "features").mkdir()
    (tmp_path / "features" / "thesis.txt").write_text("all of it")
    with pytest.raises(UsageError, match="no folder of features"):
        run(photos, tmp_path / "features", overwrite=True)


def test_labels_that_stay_must_be_of_the_same_classes(photos, tmp_path):
    run(photos, tmp_path / "features")
    added = photos / "train" / "Sterna" / "Sterna dougallii" / "new.png"
    added.parent.mkdir()
    Image.new("RGB", (48, 40), "white").save(added)
    with pytest.raises(UsageError, match="val-whole was made with other classes"):
        run(photos, tmp_path / "features", splits=["train"])
    features, counts = run(photos, tmp_path / "features")
    assert counts.shown == 1 and features.taxonomy == open_data(photos).taxonomy
    part = features.part("train")
    assert part.labels.tolist() == open_data(photos).records("train").labels.tolist()


def test_an_unreadable_photograph_stops_or_is_left_out(photos, tmp_path):
    bad = photos / "train" / "Larus" / "Larus canus" / "train1.png"
    bad.write_bytes(b"no picture")
    with pytest.raises(ImageError, match=r"train1\.png: .*\(train image 2 of 12\), or go on .* skip"):
        run(photos, tmp_path / "features")
    for shown in (23, 0):
        features, counts = run(photos, tmp_path / "features", data=open_data(photos, on_bad_image="skip"))
        assert (counts.shown, counts.left_out, counts.written) == (shown, 1, shown > 0)
        part = features.part("train")
        assert len(part.paths) == len(part.features) == len(part.labels) == 11
        assert all("train1.png" not in path for path in part.paths if "canus" in path)
    touch(bad, "white")
    features, counts = run(photos, tmp_path / "features", data=open_data(photos, on_bad_image="skip"))
    assert (counts.shown, counts.left_out) == (1, 0) and len(features.part("train").paths) == 12


def test_where_no_photograph_can_be_read_it_is_said(photos, tmp_path):
    for photo in photos.glob("*/*/*/*.png"):
        photo.write_bytes(b"no picture")
    with pytest.raises(UsageError, match="none of the 24 photographs"):
        run(photos, tmp_path / "features", data=open_data(photos, on_bad_image="skip"))


def test_numbers_that_are_none_are_refused(photos, tmp_path):
    of = network()
    next(of.module.parameters()).data.fill_(float("nan"))
    with pytest.raises(FgvcError, match="no numbers"):
        run(photos, tmp_path / "features", of)


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"views": ["whole", "flipped"]}, "did you mean 'flip'"),
        ({"views": []}, "none is named"),
        ({"splits": ["tests"]}, "did you mean 'test'"),
        ({"batch_size": 0}, "batch_size: 0"),
        ({"dtype": "float64"}, "float32 or float16"),
        ({"dtype": "float16"}, "for maps alone"),
        ({"device": "abacus"}, "device: 'abacus'"),
    ],
)
def test_wrong_words_are_told(photos, tmp_path, keys, said):
    with pytest.raises(UsageError, match=said):
        run(photos, tmp_path / "features", **keys)
    assert not (tmp_path / "features").exists()


KILLED = """
import sys
from fgvc.__main__ import main
from fgvc.features.unfinished import Unfinished

save, kept = Unfinished.save, []


def save_three(self, key, batch):
    save(self, key, batch)
    kept.append(key)
    if len(kept) == 3:
        print("three batches are kept", flush=True)
        sys.stdin.read()


Unfinished.save = save_three
main(sys.argv[1:])
"""


def test_a_killed_process_loses_no_batch_and_the_features_are_the_same_to_the_last_bit(photos, tmp_path):
    words = ["embed", "test_resnet", str(photos), "--weights", "none", "--image_size", "32", "--batch_size", "4"]
    words += ["--data.source.init_args.levels", str(LEVELS), "--data.val_fraction", "0", "--device", "cpu"]
    words += ["--views", "whole,flip", "--output", str(tmp_path / "killed")]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with started([sys.executable, "-c", KILLED, *words], **pipes) as process:
        assert process.stdout.readline() == "three batches are kept\n", process.stderr.read()
        process.kill()
        process.wait()
    killed = tmp_path / "killed"
    assert not (killed / "features.json").exists() and len(list((killed / ".unfinished").glob("*.npz"))) == 3
    with pytest.raises(UsageError, match="not finished"):
        open_features(killed)
    _, counts = run(photos, killed, views=["whole", "flip"])
    assert (counts.taken_over, counts.computed, counts.shown) == (12, 36, 20)  # the second batch lacked one view
    run(photos, tmp_path / "whole", views=["whole", "flip"])
    files = {file.name for file in killed.iterdir()}
    assert files == {file.name for file in (tmp_path / "whole").iterdir()} and len(files) == 7
    for name in files - {"features.json"}:
        assert (killed / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_a_batch_that_a_power_cut_spoilt_is_computed_again(photos, tmp_path, monkeypatch):
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr("fgvc.features.embedding._Table", _stop)
        run(photos, tmp_path / "features")
    kept = sorted((tmp_path / "features" / ".unfinished").glob("*.npz"))
    kept[0].write_bytes(kept[0].read_bytes()[:100])
    kept[1].write_bytes(b"")
    _, counts = run(photos, tmp_path / "features")
    assert counts.taken_over + counts.computed == 24 and counts.computed > 0 and len(kept) == 7


def _stop(*_):
    raise KeyboardInterrupt


def test_a_stop_between_two_tables_is_noticed_and_mended(photos, tmp_path, monkeypatch):
    run(photos, tmp_path / "features", take="map")
    touch(next(photos.glob("train/*/*/train0.png")), "white")
    touch(next(photos.glob("test/*/*/test0.png")), "white")
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr("fgvc.features.embedding.write_text", _stop)
        run(photos, tmp_path / "features", take="map")
    with pytest.raises(UsageError, match="give the same fgvc embed again"):
        open_features(tmp_path / "features")
    features, counts = run(photos, tmp_path / "features", take="map")
    assert (counts.shown, counts.reused) == (0, 24)
    assert len(list(features.path.glob("*.npy"))) == 3
    whole, _ = run(photos, tmp_path / "whole", take="map")
    np.testing.assert_allclose(features.part("train").features, whole.part("train").features, rtol=1e-4, atol=1e-5)


def test_a_damaged_table_is_made_anew_and_that_of_another_split_is_told(photos, tmp_path):
    run(photos, tmp_path / "features")
    table = tmp_path / "features" / "test-whole.parquet"
    table.write_bytes(table.read_bytes()[:200])
    touch(next(photos.glob("train/*/*/train0.png")), "white")
    with pytest.raises(UsageError, match=r"test-whole\.parquet: damaged"):
        run(photos, tmp_path / "features", splits=["train"])
    features, counts = run(photos, tmp_path / "features")
    assert counts.shown == 9 and len(features.part("test").paths) == 9


def test_uncut_photographs_of_unlike_sides_are_each_shown_as_they_are(tmp_path):
    folder = tmp_path / "photos" / "train" / "a"
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for i, (height, width) in enumerate([(40, 60), (64, 40), (40, 60), (32, 32), (30, 50)]):
        Image.fromarray(rng.integers(256, size=(height, width, 3), dtype=np.uint8)).save(folder / f"{i}.png")
    data = FineGrainedData(ImageFolder(str(tmp_path / "photos"), test_fraction=0.0), val_fraction=0)
    network = read_network("test_resnet", Wishes(weights="none", image_size=32))
    part = embed(network, data, tmp_path / "f", "scda_flip+", ["uncut"], ["train"], device="cpu").part("train", "uncut")
    assert len(part.paths) == 5
    for path, row in zip(part.paths, part.features, strict=True):
        pixels = resize_uncut(np.array(Image.open(tmp_path / "photos" / path)), network.resize)
        assert min(pixels.shape[:2]) <= 32
        images = torch.from_numpy(pixels).permute(2, 0, 1)[None]
        with torch.no_grad():
            wanted = Embedder(network.module, "scda_flip+").eval()(images)[0]
        np.testing.assert_allclose(row, wanted.numpy(), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    ("name", "take", "told"),
    [
        ("test_vit", "scda", "uncut is no square, and test_vit sees one alone"),
        ("test_resnet", "map", "the maps of uncut have unlike sides"),
    ],
)
def test_uncut_is_refused_where_a_square_is_needed(tmp_path, name, take, told):
    data = FineGrainedData(ImageFolder(str(make_photos(tmp_path / "photos", 2, 0, 0)), ["genus", "species"]))
    network = read_network(name, Wishes(weights="none", image_size=32))
    with pytest.raises(UsageError, match=told):
        embed(network, data, tmp_path / "f", take, ["uncut"], device="cpu")
