import hashlib
import json

import pytest

from fgvc.data.downloads.partial_file import PartialFile, check_whole, readable
from fgvc.errors import FgvcError

BODY = b"feathers" * 1000
MD5 = hashlib.md5(BODY).hexdigest()


@pytest.fixture
def target(tmp_path):
    return tmp_path / "a.tar"


@pytest.fixture
def begun(target):
    """A part of 3,000 bytes that was left behind."""
    part = PartialFile(target, "https://example.org/a.tar")
    part.restart(len(BODY), '"one"')
    part.append(BODY[:3000])
    part.close()
    return target


def test_a_part_is_taken_up_and_becomes_the_whole(begun):
    part = PartialFile(begun, "https://example.org/a.tar")
    assert (part.have, part.total, part.validator) == (3000, len(BODY), '"one"')
    assert part.progress == "3.00kB of 8.00kB"
    part.append(BODY[3000:])
    part.finish(MD5, len(BODY))
    assert begun.read_bytes() == BODY
    assert [path.name for path in begun.parent.iterdir()] == ["a.tar"]


def test_a_part_of_another_address_is_thrown_away(begun):
    part = PartialFile(begun, "https://example.org/b.tar")
    assert (part.have, part.total, part.validator, part.progress) == (0, None, None, "0.00B")
    part.close()
    assert begun.with_name("a.tar.part").read_bytes() == b""
    assert json.loads(begun.with_name("a.tar.part.json").read_text())["url"] == "https://example.org/b.tar"


def test_the_checksum_begins_again_with_the_file(begun):
    part = PartialFile(begun, "https://example.org/a.tar")
    part.restart(len(BODY), '"two"')
    part.append(BODY)
    part.finish(MD5, None)
    assert begun.read_bytes() == BODY


@pytest.mark.parametrize(("md5", "size"), [("0" * 32, None), (None, 7), (MD5, 7)])
def test_another_file_is_put_aside(target, md5, size):
    part = PartialFile(target, "u")
    part.append(BODY)
    wrong = f"its md5 is {MD5}, not {md5}" if md5 not in (None, MD5) else "it has 8,000 bytes, not 7"
    with pytest.raises(FgvcError) as caught:
        part.finish(md5, size)
    assert str(caught.value) == (
        f"{target}: {wrong}; put aside as a.tar.wrong: give the same command again to fetch it anew"
    )
    assert [path.name for path in target.parent.iterdir()] == ["a.tar.wrong"]


def test_a_whole_file_is_checked_by_what_is_known_of_it(target):
    for md5, size in ((MD5, len(BODY)), (MD5, None), (None, len(BODY)), (None, None)):
        target.write_bytes(BODY)
        check_whole(target, md5, size)
        assert target.read_bytes() == BODY
    with pytest.raises(FgvcError, match="it has 8,000 bytes, not 9; put aside"):
        check_whole(target, None, 9)
    with pytest.raises(FgvcError, match="cannot be read"):
        check_whole(target, MD5, None)


def test_a_folder_that_is_not_there_is_one_line(target):
    with pytest.raises(FgvcError, match=r"a\.tar\.part: cannot be written \(No such file or directory\); make room"):
        PartialFile(target.parent / "nowhere" / "a.tar", "u")


def test_numbers_of_bytes_are_readable():
    assert [readable(count) for count in (0, 999, 1_150_585_339, 240_518_168_576)] == [
        "0.00B",
        "999B",
        "1.15GB",
        "241GB",
    ]
