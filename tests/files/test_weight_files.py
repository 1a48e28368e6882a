import json
import struct

import pytest
import torch
from safetensors.torch import save_file

from fgvc.files.weight_files import LARGEST, LARGEST_HEADER, too_large


def with_header(path, size, rest=b""):
    path.write_bytes(struct.pack("<Q", size) + b"{" + rest)
    return path


def test_weights_of_a_network_are_not_too_large(tmp_path):
    save_file({f"layer{i}.weight": torch.zeros(3) for i in range(3000)}, tmp_path / "w.safetensors")
    assert too_large(tmp_path / "w.safetensors") is None


def test_a_sparse_file_is_refused_by_its_size(tmp_path):
    with (tmp_path / "w").open("wb") as file:
        file.truncate(20 * 2**30)
    assert too_large(tmp_path / "w") == f"20480 MiB; weights have at most {LARGEST // 2**20} MiB"


def test_a_million_tensors_are_refused_unread(tmp_path):
    names = {f"t{i}": {"dtype": "F32", "shape": [1], "data_offsets": [4 * i, 4 * i + 4]} for i in range(10**6)}
    text = json.dumps(names).encode()
    (tmp_path / "w").write_bytes(struct.pack("<Q", len(text)) + text + bytes(4 * 10**6))
    assert too_large(tmp_path / "w") == (
        f"a header of {len(text) / 2**20:.0f} MiB; the names and shapes of a network's tensors take at most 8 MiB"
    )


@pytest.mark.parametrize("content", [b"", b"abc", b"\xff" * 9, b"PK\x03\x04" + bytes(20)])
def test_what_is_no_safetensors_is_left_to_its_reader(tmp_path, content):
    (tmp_path / "w").write_bytes(content)
    assert too_large(tmp_path / "w") is None


def test_a_header_beyond_the_end_is_told(tmp_path):
    assert "a header beyond its end" in too_large(with_header(tmp_path / "w", 2**62))
    assert too_large(with_header(tmp_path / "w", LARGEST_HEADER)) is None
