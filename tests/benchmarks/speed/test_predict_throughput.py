import re
from argparse import Namespace

import pytest
from PIL import Image

from benchmarks.speed import predict_throughput as throughput


def line(out, start):
    (found,) = [line for line in out.splitlines() if line.startswith(start)]
    return [float(number) for number in re.findall(r"\d+(?:\.\d+)?", found[34:])]


def test_the_table_holds_speeds_ratios_and_memory(capsys):
    words = "--count 24 --backbone test_resnet --image_size 32 --batch_size 4 --rounds 2"
    assert throughput.main(words.split()) == 0
    out, err = capsys.readouterr()
    assert err == "" and "test_resnet, 32 pixels, batches of 4, cpu; 24 photographs" in out
    (bare,), (decode,) = line(out, "bare forward"), line(out, "decode and resize")
    bound, share = line(out, "bound of both")
    assert 0 < bound < min(bare, 64 * decode) and 0 < share < 1
    assert all(number > 0 for number in line(out, "fgvc predict")) and len(line(out, "fgvc predict")) == 3
    memory = line(out, "resident set")
    assert len(memory) == 3 and all(50 < size < 100_000 for size in memory)


def test_the_bound_is_that_of_shared_cores_or_of_the_slower_part(capsys, monkeypatch):
    monkeypatch.setattr(throughput.os, "sched_getaffinity", lambda _: {0, 1}, raising=False)
    speed = throughput.Speed
    for device, bound in (("cpu", 1 / (1 / 90 + 1 / 360)), ("cuda", 90)):
        args = Namespace(backbone="x", image_size=1, batch_size=1, device=device)
        bare, ours = [speed(80, 10), speed(90, 20), speed(100, 40)], [speed(85, 3), speed(76, 15)]
        throughput.report(args, 5, bare, speed(180, 1), ours, [1.0, 2.0, 3.0])
        out = capsys.readouterr().out
        assert line(out, "bound of both on 2 cores") == pytest.approx([bound, bound / 90], abs=0.06)
        # 85 over the mean of 80 and 90 is 1, 76 over that of 90 and 100 is 0.8; 3 over 15, 15 over 30 by the processor.
        assert line(out, "fgvc predict") == pytest.approx([80.5, 0.9, 0.35])


def test_the_photographs_are_of_one_size_and_as_many_as_asked_for(tmp_path, monkeypatch):
    monkeypatch.setattr(throughput, "DISTINCT", 2)
    paths = sorted(throughput.photographs(tmp_path / "photos", 5).iterdir())
    assert len(paths) == 5 and len({path.read_bytes() for path in paths}) == 2
    for path in paths:
        with Image.open(path) as photo:
            assert (photo.size, photo.format) == ((400, 300), "JPEG")


def test_what_cannot_be_measured_is_one_line(capsys, tmp_path):
    assert throughput.main(["--photos", str(tmp_path)]) == 2
    assert capsys.readouterr().err == f"predict_throughput: --photos: no pictures below {tmp_path}\n"
    (tmp_path / "a.jpg").write_bytes(b"no picture")
    assert throughput.main(["--photos", str(tmp_path), "--backbone", "test_resnet", "--image_size", "32"]) == 1
    assert "a.jpg: not a picture" in capsys.readouterr().err
    with pytest.raises(SystemExit, match="2"):
        throughput.main(["--count", "0"])
