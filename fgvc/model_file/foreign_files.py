"""What lies where a model was looked for, in words: a pickle, a web page, a model of someone else's, half a run."""

from pathlib import Path

from fgvc.files.lines import quoted

WEIGHTS, DESCRIPTION = "model.safetensors", "fgvc.json"
"""The two files of a model."""
_PAGES = (b"<!doctype", b"<html", b"<?xml", b"<head")
_OTHERS = ("config.json", "pytorch_model.bin")
_GIVE = "give a run folder or the model folder inside it"


def describe_bytes(head: bytes) -> str | None:
    """Say what a file is by its first bytes, and what to do about it; None where nothing is known of them."""
    if not head:
        return "empty; copy it again"
    if head.startswith(b"PK\x03\x04") or (head[0] == 0x80 and head[1:2] in (b"\2", b"\3", b"\4", b"\5")):
        return "a pickle; fgvc reads safetensors only, for a pickle can run anything"
    if head.lstrip().lower().startswith(_PAGES):
        return "a web page; the download went wrong: fetch the file itself"
    if head.startswith(b"version https://git-lfs"):
        return "a git-lfs pointer in place of the file; run git lfs pull"
    return None


def no_model_at(path: Path) -> str:
    """Say what is at a path where no model is, and what to give in its place."""
    if path.is_file():
        return f"{path}: {_single(path)}"
    if not path.is_dir():
        found = "neither a file nor a folder" if path.exists() else "no such folder"
        return f"{path}: no model here ({found}); {_GIVE}"
    if (path / "config.yaml").is_file():
        return f"{path}: no model here yet; finish the run first: fgvc fit --resume {quoted(path)}"
    other = next((name for name in _OTHERS if (path / name).is_file()), None)
    if other:
        return (
            f"{path}: a model of timm or Hugging Face ({other}, no {DESCRIPTION}); fgvc predicts with models that it "
            "trained; as a start give its safetensors file as `weights` of a backbone"
        )
    if (path / WEIGHTS).is_file():
        return f"{path}: {WEIGHTS} alone; copy {DESCRIPTION} beside it too"
    if any(path.glob("*.ckpt")):
        return f"{path}: checkpoints alone, which only training reads; {_GIVE}"
    return f"{path}: no model here (no {DESCRIPTION}); {_GIVE}"


def _single(path: Path) -> str:
    if path.name in (WEIGHTS, DESCRIPTION):
        return f"one of a model's two files; give their folder, {path.parent}"
    if path.suffix == ".ckpt":
        return f"a checkpoint, which only training reads; {_GIVE}"
    try:
        with path.open("rb") as file:
            kind = describe_bytes(file.read(64))
    except OSError:
        kind = None
    return f"{kind or 'a file, and a model is a folder'}; {_GIVE}"
