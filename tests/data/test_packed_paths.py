import os
import pickle

import numpy as np
import pytest

from fgvc.data.packed_paths import PackedPaths, PathPacker, map_array

PATHS = ["a/1.jpg", "b/Möwe 鳥 🦉.jpg", os.fsdecode(b"c/\xff\xfe.jpg"), "", "/elsewhere/4.jpg"]


@pytest.fixture
def mapped(tmp_path):
    packed = PackedPaths.of(PATHS)
    np.save(tmp_path / "blob.npy", packed.blob)
    np.save(tmp_path / "ends.npy", packed.ends)
    return PackedPaths(map_array(tmp_path / "blob.npy"), map_array(tmp_path / "ends.npy"))


def test_paths_come_back_as_from_a_list(mapped):
    for packed in (PackedPaths.of(iter(PATHS)), mapped):
        assert list(packed) == PATHS
        assert [packed[i] for i in range(-5, 5)] == PATHS + PATHS
        for part in (slice(1, 3), slice(None, None, -2), slice(4, 1)):
            assert packed[part] == PATHS[part]
        for index in (5, -6):
            with pytest.raises(IndexError):
                packed[index]
    assert list(PackedPaths.of([])) == []


def test_a_packer_takes_paths_as_they_come():
    packer = PathPacker()
    packer.extend(PATHS[:2])
    packer.extend([])
    packer.extend(iter(PATHS[2:]))
    assert len(packer) == 5
    assert list(packer.packed()) == PATHS


def test_mapped_paths_are_sent_as_the_names_of_their_files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    packed = PackedPaths.of(f"{i:090d}.jpg" for i in range(1000))
    np.save("blob.npy", packed.blob)
    np.save("ends.npy", packed.ends)
    mapped = PackedPaths(map_array("blob.npy"), map_array("ends.npy"))
    assert mapped.mapped and not packed.mapped
    assert len(pickle.dumps(packed)) > 94_000
    sent = pickle.dumps(mapped)
    assert len(sent) < 1000
    monkeypatch.chdir("/")  # another process may stand elsewhere
    received = pickle.loads(sent)  # noqa: S301
    assert received.mapped
    assert list(received) == list(packed) == list(pickle.loads(pickle.dumps(packed)))  # noqa: S301


def test_only_whole_files_of_plain_numbers_are_mapped(tmp_path):
    np.save(tmp_path / "objects.npy", np.array([{}], dtype=object), allow_pickle=True)
    np.save(tmp_path / "cut.npy", np.arange(1000))
    (tmp_path / "cut.npy").write_bytes((tmp_path / "cut.npy").read_bytes()[:-1])
    np.savez(tmp_path / "many.npz", np.arange(3))
    (tmp_path / "empty.npy").touch()
    for name in ("objects.npy", "cut.npy", "many.npz", "empty.npy"):
        with pytest.raises(ValueError):
            map_array(tmp_path / name)
    with pytest.raises(FileNotFoundError):
        map_array(tmp_path / "gone.npy")
