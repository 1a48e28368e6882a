import numpy as np

from benchmarks.robustness.odd_pictures import Odd, compared, main, odd_pictures


def test_every_odd_picture_is_read_as_it_was_made(capsys):
    assert main([]) == 0
    rows = [line.split(" | ") for line in capsys.readouterr().out.splitlines() if line.startswith("|")]
    assert all(row[1] == row[2].rstrip(" |") for row in rows[2:])


def test_a_wrong_picture_is_told():
    odd = next(odd_pictures())
    assert compared(odd) == ""
    assert compared(odd._replace(answer=odd.answer + 20)).startswith(("differs by 19.", "differs by 20."))
    assert compared(odd._replace(answer=np.zeros((2, 2, 3)))) == "shape (48, 64, 3), not (2, 2, 3)"
    assert compared(Odd("JPEG", "none", b"no", odd.answer)).startswith("picture: not a picture")
