from fgvc.data.downloads.facts import Archive
from fgvc.data.downloads.installing import space_needed


def test_the_space_needed_is_that_of_the_worst_moment(tmp_path):
    small, big = (Archive(f"https://example.org/{n}", n, [str(n)], expands=2.0) for n in (100, 1000))
    assert space_needed([small, big], tmp_path, keep=False) == 200 + 1000 + 2000
    assert space_needed([big, small], tmp_path, keep=False) == 1000 + 2000
    assert space_needed([small, big], tmp_path, keep=True) == 100 + 200 + 1000 + 2000
    (tmp_path / "1000.part").write_bytes(bytes(400))
    (tmp_path / "100").write_bytes(bytes(100))
    assert space_needed([small, big], tmp_path, keep=False) == 100 + 600 + 2000
