"""Configs as editors, keyboards and disks spoil them: the text of the YAML. See fuzz_configs.py."""

import random
from collections.abc import Callable

TAGS = (
    '!!python/object/apply:os.system ["touch pwned"]', "!!python/name:os.system", "!!python/object:os.system {}",
    "!!binary aGk=", "!!timestamp 2020-01-01", "!!set {a, b}", "!!omap [a: 1]", "!!int x", "!own x", "!!float 'x'",
    "*a", "&a [*a]", "&a {b: *a}", "<<", "!!str 1", "? [a, b]", "{a: 1, a: 2}", "|", ">-\n  x", "'", '"', '"\\x00"',
    "[", "{", "- a", "a: b: c", "${oc.env:HOME}", "%YAML 9", "yes", "on", "1:30", "0o17", ".nan", "-.inf", "=",
)  # fmt: skip
LAUGHS = "".join(f"l{i}: &l{i} [{', '.join([f'*l{i - 1}' if i else 'ha'] * 9)}]\n" for i in range(9))


def other_text(draw: random.Random, text: str) -> bytes:
    """Return a YAML text with one to three faults."""
    content = text.encode()
    for _ in range(draw.choice([1, 1, 2, 3])):
        if draw.random() < 0.75:
            lines = content.decode("utf-8", "replace").split("\n")
            content = draw.choice(LINES)(draw, lines).encode("utf-8", "replace")
        else:
            content = draw.choice(WHOLES)(draw, content)
    return content


def _indent(draw: random.Random, lines: list[str]) -> str:
    i = draw.randrange(len(lines))
    spaces = len(lines[i]) - len(lines[i].lstrip())
    lines[i] = draw.choice([" ", "  ", "    ", "\t", " " * max(0, spaces - 2), "", "\u00a0"]) + lines[i].lstrip()
    return "\n".join(lines)


def _twice(draw: random.Random, lines: list[str]) -> str:
    i = draw.randrange(len(lines))
    lines.insert(draw.randrange(len(lines)) if draw.random() < 0.5 else i, lines[i])
    return "\n".join(lines)


def _lost(draw: random.Random, lines: list[str]) -> str:
    del lines[draw.randrange(len(lines))]
    return "\n".join(lines)


def _tag(draw: random.Random, lines: list[str]) -> str:
    i = draw.randrange(len(lines))
    lines[i] = f"{lines[i].partition(':')[0]}: {draw.choice(TAGS)}"
    return "\n".join(lines)


def _colon(draw: random.Random, lines: list[str]) -> str:
    i = draw.randrange(len(lines))
    lines[i] = draw.choice([lines[i].replace(":", "", 1), lines[i].replace(": ", ":"), lines[i].replace(":", "=", 1)])
    return "\n".join(lines)


def _merge(draw: random.Random, lines: list[str]) -> str:
    i = draw.randrange(len(lines))
    spaces = " " * (len(lines[i]) - len(lines[i].lstrip()))
    lines.insert(i, spaces + draw.choice(["<<: *a", "<<: 3", "<<: [1]", "<<: {lr: 1}", "<<: {x: 1}", "<<: "]))
    return draw.choice(["", "a: &a {lr: 1}\n"]) + "\n".join(lines)


def _cut(draw: random.Random, content: bytes) -> bytes:
    return content[: draw.randrange(len(content) + 1)]


def _noise(draw: random.Random, content: bytes) -> bytes:
    changed = bytearray(content or b"x")
    for _ in range(draw.randint(1, 6)):
        changed[draw.randrange(len(changed))] = draw.randrange(256)
    return bytes(changed)


def _coded(draw: random.Random, content: bytes) -> bytes:
    text = content.decode("utf-8", "replace")
    ways: list[Callable[[], bytes]] = [
        lambda: text.encode("utf-16"),
        lambda: (text + "# Müllers Möwe\n").encode("latin-1", "replace"),
        lambda: text.encode("utf-8-sig"),
        lambda: text.replace("\n", "\r\n").encode(),
        lambda: text.replace("\n", "\r").encode(),
        lambda: text.replace(" ", "\u2003").encode(),
        lambda: text.replace("  ", "\t").encode(),
    ]
    return draw.choice(ways)()


def _other(draw: random.Random, content: bytes) -> bytes:
    several = [b"", b"\n\n", b"# nothing\n", b"---\n...\n", b"---\n" * 3, b"null", b"~", b"3", b"text", b"[]", b"{}"]
    several += [b"\0", b"\xff\xd8\xff\xe0", b"PK\x03\x04", b"[" * 5000, b"{a: " * 5000, b"- " * 3000, b"a: " * 10]
    several += [content + b"---\n" + content, content + b"...\ntrailing", content * 2, content + LAUGHS.encode()]
    return draw.choice(several)


LINES = (_indent, _indent, _twice, _lost, _tag, _tag, _colon, _merge)
WHOLES = (_cut, _noise, _coded, _other)
