import json
import random
import tracemalloc

import pytest

from fgvc.data.reading import json_stream
from fgvc.data.reading.json_stream import pieces

TEXTS = ["", "a } ] , {", '"', "\\", '\\"}', "Möwe 鳥 🦉", "\n\t\x7f", "[{", "x" * 50, "\ud83d"]
"""What strings may hold: braces, brackets, quotes, four-byte letters, half a surrogate pair."""


def anything(draw, depth=0):
    """A random JSON value; deeper ones are scalars."""
    kinds = [
        lambda: draw.choice(TEXTS) + str(draw.randint(0, 9)),
        lambda: draw.randint(-(10**20), 10**20),
        lambda: draw.uniform(-1e9, 1e9) * 10 ** draw.randint(-200, 200),
        lambda: draw.choice([None, True, False, 0, -1.5, float("inf")]),
        lambda: {f"{draw.choice(TEXTS)}{i}": anything(draw, depth + 1) for i in range(draw.randint(0, 4))},
        lambda: [anything(draw, depth + 1) for _ in range(draw.randint(0, 4))],
    ]
    return draw.choice(kinds[: 6 if depth < 3 else 4])()


def read(path):
    """Put the pieces together again."""
    whole = {}
    for key, some in pieces(path):
        whole.setdefault(key, []).extend(some)
    return whole


def expected(content):
    """The same from the whole file."""
    if isinstance(content, list):
        return {None: content} if content else {}
    return {key: value if isinstance(value, list) else [value] for key, value in content.items() if value != []}


@pytest.mark.parametrize("chunk", [1, 2, 7, 64, 1000])
@pytest.mark.parametrize("seed", range(12))
def test_the_pieces_are_what_the_whole_file_holds_wherever_it_is_cut(tmp_path, monkeypatch, chunk, seed):
    draw = random.Random(seed)
    monkeypatch.setattr(json_stream, "CHUNK", chunk)
    some = [anything(draw) for _ in range(draw.randint(0, 30))]
    records = [{"id": i, "name": draw.choice(TEXTS), "box": [1, 2.5]} for i in range(30)]
    keyed = {f"{draw.choice(TEXTS)}{i}": anything(draw) for i in range(3)}
    content = some if seed % 3 == 0 else {"images": records, **keyed, "mixed": some, "last": anything(draw)}
    style = {"indent": draw.choice([None, 1]), "ensure_ascii": draw.random() < 0.5}
    text = json.dumps(content, **style)
    if any(0xD800 <= ord(letter) < 0xE000 for letter in text):
        text = json.dumps(content, indent=style["indent"])  # UTF-8 has no half pairs
    (tmp_path / "a.json").write_text(draw.choice(["", " \n", "\ufeff"]) + text + draw.choice(["", "\r\n"]), "utf-8")
    assert read(tmp_path / "a.json") == expected(json.loads(text))


def test_nan_is_read_as_in_the_published_files(tmp_path):
    (tmp_path / "a.json").write_text('{"images": [{"latitude": NaN}]}')
    (found,) = read(tmp_path / "a.json")["images"]
    assert found["latitude"] != found["latitude"]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "{ or [ is expected at character 0"),
        ("7", "{ or [ is expected at character 0"),
        ("{", "a key is expected at character 1"),
        ("{1: 2}", "a key is expected at character 1"),
        ('{"a" 1}', ": is expected at character 5"),
        ('{"a": 1', ", or } is expected at character 7"),
        ('{"a": 1,}', "a key is expected at character 8"),
        ('{"a": }', "Expecting value at character 6"),
        ('{"a": [1,]}', "Expecting value at character 9"),
        ('{"a": [{},]}', "Expecting value at character 10"),
        ('{"a": [{} {}]}', ", or ] is expected at character 10"),
        ('{"a": [{}}', ", or ] is expected at character 9"),
        ('{"a": [{"b": 1}', ", or ] is expected at character 15"),
        ('{"a": "b', "Unterminated string starting at character 6"),
        ("[1] [2]", "more text after the end at character 4"),
        ('{"a": [tru]}', "Expecting value at character 7"),
    ],
)
@pytest.mark.parametrize("chunk", [1, 5, 2**18])
def test_what_is_not_json_is_refused_with_its_place(tmp_path, monkeypatch, content, said, chunk):
    monkeypatch.setattr(json_stream, "CHUNK", chunk)
    (tmp_path / "a.json").write_text(content)
    with pytest.raises(ValueError):
        json.loads(content if content != "7" else "")
    with pytest.raises(ValueError) as caught:
        read(tmp_path / "a.json")
    assert str(caught.value) == said


def test_a_fault_at_the_beginning_ends_the_reading_there(tmp_path):
    (tmp_path / "a.json").write_text('{"images": [{"id" 1}, ' + '{"id": 2}, ' * 300_000 + "{}]}")
    seen = []
    with pytest.raises(ValueError, match="at character 18"):
        list(pieces(tmp_path / "a.json", seen.append))
    assert sum(seen) <= 2 * json_stream.CHUNK


def test_what_is_not_utf_8_or_too_deep_is_refused(tmp_path):
    (tmp_path / "a.json").write_bytes(b'{"a": "\xff"}')
    with pytest.raises(ValueError, match=r"no UTF-8 \(invalid start byte\) after character 0"):
        read(tmp_path / "a.json")
    (tmp_path / "a.json").write_text("[" * 100_000)
    with pytest.raises((RecursionError, ValueError)):
        read(tmp_path / "a.json")


def test_the_bytes_read_are_told_and_memory_stays_small(tmp_path):
    path = tmp_path / "a.json"
    path.write_text(json.dumps({"images": [{"id": i, "file_name": "x" * 80} for i in range(60_000)]}))
    told = []
    tracemalloc.start()
    count = sum(len(some) for _, some in pieces(path, told.append))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert count == 60_000
    assert sum(told) == path.stat().st_size > 6_000_000
    assert peak < 3_500_000


def test_one_huge_value_is_not_scanned_again_for_every_chunk(tmp_path, monkeypatch):
    monkeypatch.setattr(json_stream, "CHUNK", 16)
    (tmp_path / "a.json").write_text(json.dumps({"info": "x" * 100_000}))
    reads = []
    ((key, (value,)),) = pieces(tmp_path / "a.json", reads.append)
    assert (key, len(value)) == ("info", 100_000)
    assert len(reads) < 25
