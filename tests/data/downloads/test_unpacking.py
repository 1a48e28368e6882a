import gzip
import io
import os
import stat
import subprocess
import sys
import tarfile
import zipfile

import pytest

from fgvc.data.downloads.unpacking import unpack
from fgvc.errors import FgvcError

FILES = {"birds/1.jpg": b"one", "birds/deep/2.jpg": b"two" * 1000, "list.txt": b""}
MUCH = 10**9


def make_tar(path, members, mode="w:gz"):
    """Write a tar of name -> bytes or TarInfo."""
    with tarfile.open(path, mode) as file:
        for name, what in members.items():
            info = what if isinstance(what, tarfile.TarInfo) else tarfile.TarInfo(name)
            if isinstance(what, bytes):
                info.size = len(what)
            file.addfile(info, io.BytesIO(what) if isinstance(what, bytes) else None)
    return path


def make_zip(path, members):
    """Write a zip of name -> bytes or (mode, bytes)."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, what in members.items():
            info = zipfile.ZipInfo(name)
            info.compress_type = zipfile.ZIP_DEFLATED
            mode, body = what if isinstance(what, tuple) else (stat.S_IFREG | 0o644, what)
            info.external_attr = mode << 16
            file.writestr(info, body)
    return path


def special(name, kind, **facts):
    info = tarfile.TarInfo(name)
    info.type = kind
    for key, value in facts.items():
        setattr(info, key, value)
    return info


def files_below(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def folder(tmp_path):
    made = tmp_path / "around" / "new"
    made.mkdir(parents=True)
    return made


@pytest.mark.parametrize("kind", ["w", "w:gz", "w:bz2", "w:xz", "zip"])
def test_files_and_folders_come_out_as_they_went_in(tmp_path, folder, kind):
    path = tmp_path / "archive"
    members = {f"./{name}": body for name, body in FILES.items()}
    archive = make_zip(path, members) if kind == "zip" else make_tar(path, members, kind)
    assert unpack(archive, folder, MUCH) == 3
    assert files_below(folder) == FILES


def test_empty_folders_come_out_and_a_later_file_of_a_name_wins(tmp_path, folder):
    twice = tarfile.TarInfo("a.txt")
    twice.size = 3
    archive = make_tar(tmp_path / "a.tgz", {".": special(".", tarfile.DIRTYPE), "e": special("e", tarfile.DIRTYPE)})
    assert unpack(archive, folder, MUCH) == 0
    assert (folder / "e").is_dir()
    with tarfile.open(tmp_path / "b.tar", "w") as file:
        for body in (b"old", b"new"):
            file.addfile(twice, io.BytesIO(body))
    unpack(tmp_path / "b.tar", folder, MUCH)
    assert (folder / "a.txt").read_bytes() == b"new"


OUTSIDE = [
    "/etc/evil",
    "../evil",
    "birds/../../evil",
    "..",
    "C:\\evil",
    "..\\evil",
    "birds\\..\\..\\evil",
    "\\\\host\\share\\evil",
]


@pytest.mark.parametrize("name", OUTSIDE)
@pytest.mark.parametrize("kind", ["tar", "zip"])
def test_no_name_leads_out_of_the_folder(tmp_path, folder, name, kind):
    make = make_tar if kind == "tar" else make_zip
    archive = make(tmp_path / f"a.{kind}", {"good.txt": b"1", name: b"evil"})
    with pytest.raises(FgvcError) as caught:
        unpack(archive, folder, MUCH)
    assert str(caught.value) == (
        f"{archive}: its member {name!r} leads out of the folder; nothing of it is used: look for another source"
    )
    assert files_below(tmp_path / "around") == {"new/good.txt": b"1"}


@pytest.mark.parametrize(
    "info",
    [
        special("x", tarfile.SYMTYPE, linkname="/etc/passwd"),
        special("x", tarfile.SYMTYPE, linkname=".."),
        special("x", tarfile.SYMTYPE, linkname="good.txt"),
        special("x", tarfile.LNKTYPE, linkname="good.txt"),
        special("x", tarfile.LNKTYPE, linkname="/etc/passwd"),
        special("x", tarfile.CHRTYPE, devmajor=1, devminor=3),
        special("x", tarfile.BLKTYPE, devmajor=8),
        special("x", tarfile.FIFOTYPE),
    ],
    ids=[
        "absolute link",
        "link out",
        "link in",
        "hard link",
        "hard link out",
        "character device",
        "block device",
        "pipe",
    ],
)
def test_links_and_devices_of_a_tar_are_refused(tmp_path, folder, info):
    archive = make_tar(tmp_path / "a.tgz", {"good.txt": b"1", "x": info, "x/evil": b"2"})
    with pytest.raises(
        FgvcError, match="its member 'x' is a link, a device or a file with holes; nothing of it is used"
    ):
        unpack(archive, folder, MUCH)
    assert not os.path.lexists(folder / "x")


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFCHR, stat.S_IFBLK, stat.S_IFIFO, stat.S_IFSOCK])
def test_links_and_devices_of_a_zip_are_refused(tmp_path, folder, kind):
    archive = make_zip(tmp_path / "a.zip", {"good.txt": b"1", "x": (kind | 0o777, b"/etc/passwd")})
    with pytest.raises(FgvcError, match="its member 'x' is a link or a device"):
        unpack(archive, folder, MUCH)
    assert not os.path.lexists(folder / "x")


def test_a_file_with_holes_is_refused(tmp_path, folder):
    archive = tmp_path / "holes.tar"
    source = tmp_path / "holes.bin"
    with source.open("wb") as file:
        file.truncate(2**30)
    if subprocess.run(["tar", "--version"], capture_output=True, text=True).stdout.find("GNU") < 0:
        pytest.skip("needs GNU tar")
    subprocess.run(["tar", "-cS", "-f", archive, "-C", tmp_path, "holes.bin"], check=True)
    assert archive.stat().st_size < 2**20
    with pytest.raises(FgvcError, match=r"holes\.bin' is a link, a device or a file with holes"):
        unpack(archive, folder, MUCH)


@pytest.mark.skipif(os.name == "nt", reason="POSIX permissions")
def test_permissions_and_dates_are_those_of_new_files(tmp_path, folder):
    facts = {"mode": 0o6777, "mtime": 0, "uid": 0, "uname": "root"}
    tar = make_tar(tmp_path / "a.tgz", {"d": special("d", tarfile.DIRTYPE, mode=0)}, "w")
    info = special("d/x", tarfile.REGTYPE, size=1, **facts)
    with tarfile.open(tar, "a") as file:
        file.addfile(info, io.BytesIO(b"1"))
    unpack(tar, folder, MUCH)
    unpack(make_zip(tmp_path / "a.zip", {"z": (stat.S_IFREG | 0o6777, b"1")}), folder, MUCH)
    (tmp_path / "plain").write_bytes(b"1")
    usual = stat.S_IMODE((tmp_path / "plain").stat().st_mode)
    for name in ("d/x", "z"):
        found = (folder / name).stat()
        assert stat.S_IMODE(found.st_mode) == usual
        assert found.st_mtime > 10**9


@pytest.mark.parametrize("kind", ["tar", "zip"])
def test_a_bomb_stops_at_the_limit(tmp_path, folder, kind):
    make = make_tar if kind == "tar" else make_zip
    archive = make(tmp_path / f"a.{kind}", {"zeros": bytes(50 * 2**20)})
    assert archive.stat().st_size < 10**5
    with pytest.raises(FgvcError, match=r"unpacks to more than 5\.00MB, which its size does not explain"):
        unpack(archive, folder, 5_000_000)
    assert sum(map(len, files_below(folder).values())) <= 5_000_000


def test_a_million_empty_files_are_not_free(tmp_path, folder):
    archive = make_tar(tmp_path / "a.tgz", {f"{i}": b"" for i in range(2000)})
    with pytest.raises(FgvcError, match=r"unpacks to more than 51\.2kB"):
        unpack(archive, folder, 512 * 100)
    assert len(files_below(folder)) == 100


@pytest.mark.parametrize("keep", [0, 10, 0.5, -9, -1])
def test_a_damaged_tar_is_one_line(tmp_path, folder, keep):
    archive = make_tar(tmp_path / "a.tgz", {"x": os.urandom(100_000)})
    whole = archive.read_bytes()
    archive.write_bytes(whole[: int(len(whole) * keep) if isinstance(keep, float) else keep])
    with pytest.raises(FgvcError, match=r"a\.tgz: damaged \(.+\); delete it and give the same command again"):
        unpack(archive, folder, MUCH)


@pytest.mark.parametrize("kind", ["tgz", "zip"])
def test_changed_bytes_are_found_by_the_checksum_inside(tmp_path, folder, kind):
    body = os.urandom(100_000)
    archive = tmp_path / f"a.{kind}"
    if kind == "zip":
        with zipfile.ZipFile(archive, "w") as file:
            file.writestr("x", body)
    else:
        make_tar(tmp_path / "a.tar", {"x": body}, "w")
        archive.write_bytes(gzip.compress((tmp_path / "a.tar").read_bytes(), 0))
    changed = bytearray(archive.read_bytes())
    changed[50_000] ^= 1
    archive.write_bytes(changed)
    with pytest.raises(FgvcError, match=r"damaged \(.*CRC"):
        unpack(archive, folder, MUCH)


def test_what_is_no_archive_or_is_locked_is_one_line(tmp_path, folder):
    for body in (b"<html>log in</html>", b"PK\x03\x04 and so on", b""):
        (tmp_path / "a").write_bytes(body)
        with pytest.raises(FgvcError, match="a: damaged"):
            unpack(tmp_path / "a", folder, MUCH)
    locked = make_zip(tmp_path / "a.zip", {"x": b"1"})
    body = bytearray(locked.read_bytes())
    body[body.index(b"PK\x01\x02") + 8] |= 1
    body[6] |= 1
    locked.write_bytes(body)
    with pytest.raises(FgvcError, match=r"damaged .*encrypted"):
        unpack(locked, folder, MUCH)


def test_a_file_where_a_folder_should_be_is_one_line(tmp_path, folder):
    archive = make_tar(tmp_path / "a.tgz", {"x": b"1", "x/y": b"2"})
    with pytest.raises(FgvcError, match=r"new: cannot be written \(.+\) while unpacking .*a\.tgz"):
        unpack(archive, folder, MUCH)


def test_a_full_disk_is_one_line(tmp_path, folder):
    pytest.importorskip("resource")
    archive = make_tar(tmp_path / "a.tgz", {"x": bytes(10**6)})
    program = (
        "import pathlib, resource, fgvc.data.downloads.unpacking as u\n"
        "from fgvc.errors import FgvcError\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000))\n"
        f"try: u.unpack(pathlib.Path({str(archive)!r}), pathlib.Path({str(folder)!r}), {MUCH})\n"
        "except FgvcError as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout == f"{folder}: cannot be written (File too large) while unpacking {archive}\n", done.stderr


def test_the_headers_of_many_files_do_not_stay_in_memory(tmp_path, folder):
    archive = make_tar(tmp_path / "a.tgz", {f"{i}": b"" for i in range(1000)})
    kept = []
    real = tarfile.TarFile.next

    def spy(self):
        kept.append(len(self.members))
        return real(self)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tarfile.TarFile, "next", spy)
        unpack(archive, folder, MUCH)
    assert len(kept) > 1000 and max(kept) <= 1
