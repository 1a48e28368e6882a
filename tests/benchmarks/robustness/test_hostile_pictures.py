import pytest

from benchmarks.robustness.hostile_pictures import main


@pytest.mark.parametrize(
    ("name", "answer"),
    [
        ("JPEG, 1,000 scans, 16 megapixels", "a JPEG of over 100 scans, each over all pixels; save it again"),
        ("PNG, 10,000 profiles of 1 MB", "read, 64 x 48"),
        ("GIF, a frame of 3,600 megapixels", "3600 million pixels; the limit is 120 million"),
        ("PBM, 4 MB of comments", "PPM is read by option only; give any_format, or save it as PNG"),
    ],
)
def test_what_a_hostile_picture_takes_is_measured(capsys, name, answer):
    code = main(["--only", name])
    row = capsys.readouterr().out.splitlines()[-1].split(" | ")
    assert code == 0 and row[0] == f"| {name}"
    assert row[4].startswith(answer)
    assert float(row[2]) < 5 and int(row[3].replace(",", "")) < 1074


def test_an_option_reads_more(capsys):
    assert main(["--any_format", "--only", "PPM, 174 megapixels claimed"]) == 0
    assert "174 million pixels" in capsys.readouterr().out
