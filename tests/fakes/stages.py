"""A table of stages for the photographs of `make_photos`."""

from pathlib import Path

from fgvc.data.stages import STAGES


def write_stages(file: Path, photos: Path, levels: int = 2) -> Path:
    """Give the training photographs the three stages in turn; labels are spelt with so many folder names."""
    rows = [
        f"{path.relative_to(photos)},{' > '.join(path.parts[-1 - levels : -1])},{STAGES[i % 3]}"
        for i, path in enumerate(sorted((photos / "train").rglob("*.png")))
    ]
    file.write_text("\n".join(["path,label,stage", *rows]), encoding="utf-8")
    return file
