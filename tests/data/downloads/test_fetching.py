import hashlib
import subprocess
import sys
import time
import urllib.request
from functools import partial

import pytest
from fakes.file_server import serving
from fakes.processes import started, until

from fgvc.data.downloads import fetching
from fgvc.data.downloads.fetching import StaySecure, fetch
from fgvc.errors import FgvcError

BODY = bytes(range(256)) * 4000  # 1,024,000 bytes
MD5 = hashlib.md5(BODY).hexdigest()


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch):
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.setenv(name, "*")


@pytest.fixture
def server():
    with serving({"/a.tar": BODY}) as running:
        yield running


@pytest.fixture
def target(tmp_path):
    return tmp_path / "a.tar"


@pytest.fixture
def pauses():
    return []


@pytest.fixture
def get(server, target, pauses):
    return partial(fetch, server.url(), target, pause=pauses.append)


def names(target):
    return sorted(path.name for path in target.parent.iterdir())


def ranges(server):
    return [asked.get("Range") for asked in server.asked]


def test_a_file_is_fetched_checked_and_not_fetched_again(get, server, target, pauses):
    get(MD5, len(BODY))
    assert target.read_bytes() == BODY
    assert names(target) == ["a.tar"]
    get(MD5, len(BODY))
    assert (len(server.asked), pauses) == (1, [])


def test_cut_connections_are_continued_where_they_stopped(get, server, target, pauses, capsys):
    server.plan = ["cut 1000", "status 503", "cut 0", "cut 500000", "ok"]
    get(MD5, len(BODY))
    assert target.read_bytes() == BODY
    assert ranges(server) == [None, "bytes=1000-", "bytes=1000-", "bytes=1000-", "bytes=501000-"]
    assert [asked.get("If-Range") for asked in server.asked[1:]] == ['"one"'] * 4
    assert pauses == [1, 2, 4, 8]
    said = capsys.readouterr().err.splitlines()
    assert said[0] == "a.tar: the connection was cut after 1.00kB of 1.02MB; again in 1 s"
    assert said[1] == "a.tar: the server answers 503 Service Unavailable after 1.00kB of 1.02MB; again in 2 s"


def test_after_some_tries_the_part_is_kept_for_the_next_call(get, server, target, pauses):
    server.plan = ["cut 600000"] + ["cut 0"] * (fetching.TRIES - 1)
    with pytest.raises(FgvcError) as caught:
        get(MD5, len(BODY))
    assert str(caught.value) == (
        f"{server.url()}: the connection was cut, 5 times in a row; 600kB of 1.02MB arrived and is kept: "
        "give the same command again to continue"
    )
    assert pauses == [1, 2, 4, 8]
    assert names(target) == ["a.tar.part", "a.tar.part.json"]
    get(MD5, len(BODY))
    assert ranges(server)[-1] == "bytes=600000-"
    assert target.read_bytes() == BODY
    assert names(target) == ["a.tar"]


def test_a_connection_that_brings_something_is_no_failure_in_a_row(server, target, pauses, monkeypatch):
    monkeypatch.setattr(fetching, "BLOCK", 50_000)
    server.plan = ["cut 60000"] * 15
    fetch(server.url(), target, MD5, pause=pauses.append)
    assert target.read_bytes() == BODY
    assert pauses == [1] * 15


def test_a_server_that_ignores_ranges_starts_over(get, server, target, capsys):
    server.plan = ["cut 5000", "ignore"]
    get(MD5, len(BODY))
    assert target.read_bytes() == BODY
    assert ranges(server) == [None, "bytes=5000-"]
    assert "a.tar: the server does not continue what there is; from its start again" in capsys.readouterr().err


@pytest.mark.parametrize("etag", ['"two"', None])
def test_a_file_that_changed_starts_over(server, target, pauses, etag):
    changed = BODY[::-1] + b"more"
    server.plan = ["cut 5000"] * fetching.TRIES
    with pytest.raises(FgvcError, match="5 times in a row"):
        fetch(server.url(), target, pause=pauses.append)
    assert target.with_name("a.tar.part").stat().st_size > 0
    server.files["/a.tar"], server.etag = changed, etag
    fetch(server.url(), target, pause=pauses.append)
    assert target.read_bytes() == changed


def test_another_length_of_a_file_without_a_version_starts_over(server, target, pauses):
    server.etag = None
    server.plan = ["cut 5000"] + ["cut 0"] * (fetching.TRIES - 1)
    with pytest.raises(FgvcError, match="5 times in a row"):
        fetch(server.url(), target, pause=pauses.append)
    server.files["/a.tar"] = BODY[::-1] + b"more"
    fetch(server.url(), target, pause=pauses.append)
    assert target.read_bytes() == BODY[::-1] + b"more"
    assert ranges(server)[-2:] == ["bytes=5000-", None]


def test_a_range_that_was_not_asked_for_starts_over(get, server, target):
    server.plan = ["cut 5000", "shifted", "ok"]
    get(MD5, len(BODY))
    assert target.read_bytes() == BODY
    assert ranges(server) == [None, "bytes=5000-", None]


def test_a_part_that_is_longer_than_the_file_starts_over(get, server, target):
    server.plan = ["cut 5000"] * fetching.TRIES
    with pytest.raises(FgvcError, match="in a row"):
        get()
    with target.with_name("a.tar.part").open("ab") as file:
        file.write(BODY)
    get(MD5)
    assert target.read_bytes() == BODY
    assert ranges(server)[-1] is None


def test_a_part_that_is_all_there_is_not_asked_for_again(get, server, target):
    server.plan = ["cut 5000"] * fetching.TRIES
    with pytest.raises(FgvcError, match="in a row"):
        get()
    target.with_name("a.tar.part").write_bytes(BODY)
    get(MD5, len(BODY))
    assert target.read_bytes() == BODY
    assert len(server.asked) == fetching.TRIES


@pytest.mark.parametrize("note", [None, "", '{"url": "http', "[]", '{"url": "http://elsewhere", "total": 1}'])
def test_a_part_of_nobody_knows_what_is_thrown_away(get, server, target, note):
    target.with_name("a.tar.part").write_bytes(b"something else")
    if note is not None:
        target.with_name("a.tar.part.json").write_text(note)
    get(MD5, len(BODY))
    assert target.read_bytes() == BODY
    assert ranges(server) == [None]


def test_wrong_bytes_are_put_aside(get, server, target):
    server.files["/a.tar"] = BODY[:-1] + b"!"
    found = hashlib.md5(server.files["/a.tar"]).hexdigest()
    with pytest.raises(FgvcError) as caught:
        get(MD5, len(BODY))
    assert str(caught.value) == (
        f"{target}: its md5 is {found}, not {MD5}; put aside as a.tar.wrong: give the same command again to fetch it "
        "anew"
    )
    assert names(target) == ["a.tar.wrong"]
    server.files["/a.tar"] = BODY
    get(MD5, len(BODY))
    assert target.read_bytes() == BODY


def test_a_wrong_file_under_the_right_name_is_put_aside_and_not_used(get, server, target):
    target.write_bytes(b"from elsewhere")
    with pytest.raises(FgvcError, match=r"put aside as a\.tar\.wrong"):
        get(MD5, len(BODY))
    assert target.with_name("a.tar.wrong").read_bytes() == b"from elsewhere"
    assert server.asked == []


def test_a_length_that_cannot_be_right_stops_before_it_costs_the_part(get, server, target):
    server.plan = ["cut 5000"] * fetching.TRIES
    with pytest.raises(FgvcError, match="in a row"):
        get(MD5, len(BODY))
    kept = target.with_name("a.tar.part").stat().st_size
    server.files["/a.tar"], server.etag = b"not found, but politely", '"two"'
    with pytest.raises(FgvcError) as caught:
        get(MD5, len(BODY))
    assert str(caught.value) == (
        f"{server.url()}: the server sends 23 bytes, not 1,024,000; open the address in a browser to see what that is: "
        "a log-in page, or a changed file"
    )
    server.plan = ["html"]
    with pytest.raises(FgvcError, match="the server sends a web page, not a file; open the address in a browser"):
        get(MD5)
    assert target.with_name("a.tar.part").stat().st_size == kept == 25000


@pytest.mark.parametrize("manner", ["ok", "unsized"])
def test_more_than_can_be_meant_is_refused(get, server, target, manner):
    server.plan = [manner]
    with pytest.raises(FgvcError, match=r"the server sends [\d,]+ bytes, not at most 1\.00kB"):
        get(at_most=1000)
    assert not target.exists()


def test_a_server_that_does_not_say_how_long_the_file_is(get, server, target):
    server.plan = ["unsized"]
    get(MD5)
    assert target.read_bytes() == BODY


def test_chunks_that_break_off_are_continued(get, server, target):
    server.plan = ["chunked 5000", "ok"]
    get(MD5)
    assert target.read_bytes() == BODY
    assert ranges(server) == [None, "bytes=5000-"]


def test_silence_is_a_cut_connection(server, target, pauses, capsys):
    server.plan = ["stall 7000", "ok"]
    start = time.monotonic()
    fetch(server.url(), target, MD5, pause=pauses.append, timeout=3)  # what is told takes a thousandth of this
    assert time.monotonic() - start >= 3
    assert target.read_bytes() == BODY
    assert ranges(server) == [None, "bytes=7000-"]
    assert capsys.readouterr().err.startswith("a.tar: no answer after 7.00kB of 1.02MB; again in 1 s\n")


def test_a_missing_file_is_not_asked_for_twice(server, target, pauses):
    with pytest.raises(FgvcError) as caught:
        fetch(server.url("/b.tar"), target, pause=pauses.append)
    assert str(caught.value) == (
        f"{server.url('/b.tar')}: the server answers 404 Not Found; open the address in a browser to see why, or look "
        "for a new one on the page of the data set"
    )
    assert (len(server.asked), pauses) == (1, [])


def test_a_server_that_always_fails_is_given_up(get, server, pauses):
    server.plan = ["status 500"] * 9
    with pytest.raises(
        FgvcError, match=r"the server answers 500 Internal Server Error, 5 times in a row; give the same command again"
    ):
        get(MD5)
    assert (len(server.asked), pauses) == (5, [1, 2, 4, 8])


def test_nobody_at_home(server, target, pauses):
    url = server.url()
    server.server_close()
    with pytest.raises(FgvcError, match="Connection refused, 5 times in a row; give the same command again"):
        fetch(url, target, pause=pauses.append)


def test_redirections_are_followed_with_the_range(get, server, target):
    server.files["/elsewhere"] = BODY
    server.plan = ["to /elsewhere", "cut 5000", "to /elsewhere", "ok"]
    get(MD5, len(BODY))
    assert target.read_bytes() == BODY
    assert ranges(server) == [None, None, "bytes=5000-", "bytes=5000-"]


def test_a_circle_of_redirections_ends(get, server):
    server.plan = ["to /a.tar"] * 30
    with pytest.raises(FgvcError, match="the server answers 302"):
        get(MD5)
    assert len(server.asked) < 15


def test_no_way_leads_from_https_to_something_weaker():
    request = urllib.request.Request("https://example.org/a.tar")
    follow = partial(StaySecure().redirect_request, request, None, 302, "Found", {})
    assert follow("https://example.org/b.tar").full_url == "https://example.org/b.tar"
    for weaker in ("http://example.org/b.tar", "ftp://example.org/b.tar"):
        with pytest.raises(FgvcError, match=f"redirected to {weaker}, which is not https; nothing was fetched"):
            follow(weaker)


def test_a_kill_loses_nothing_that_arrived(server, target):
    server.plan = ["stall 700000"]
    program = (
        f"import pathlib, fgvc.data.downloads.fetching as d; d.fetch({server.url()!r}, pathlib.Path({str(target)!r}))"
    )
    part = target.with_name("a.tar.part")
    with started([sys.executable, "-c", program]) as process:
        until(lambda: part.exists() and part.stat().st_size == 700_000, process)
    fetch(server.url(), target, MD5)
    assert target.read_bytes() == BODY
    assert ranges(server) == [None, "bytes=700000-"]


def test_a_full_disk_is_one_line_and_keeps_the_part(server, target):
    pytest.importorskip("resource")
    program = (
        "import pathlib, resource, fgvc.data.downloads.fetching as d\n"
        "from fgvc.errors import FgvcError\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000))\n"
        f"try: d.fetch({server.url()!r}, pathlib.Path({str(target)!r}))\n"
        "except FgvcError as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout == (
        f"{target}.part: cannot be written (File too large); make room or mend it, then give the same command again: "
        "it continues\n"
    ), done.stderr
    fetch(server.url(), target, MD5)
    assert target.read_bytes() == BODY
    assert ranges(server)[1] is not None
