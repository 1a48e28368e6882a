"""The table that throughput.py prints, and the machine it was made on."""

import os
import platform
import statistics
from pathlib import Path
from typing import NamedTuple

import cv2
import PIL
import torch
import torchvision  # type: ignore[import-untyped]

HEADER = f"{'':<30} {'ours/s':>9} {'bare/s':>9} {'ratio':>7}   {'spread':<14}   aim"


class Row(NamedTuple):
    """One line of the table: images per second of every turn, and what their ratio should be, where there is an aim."""

    what: str
    ours: list[float]
    theirs: list[float]
    aim: float | None = None

    def __str__(self) -> str:
        ratios = sorted(a / b for a, b in zip(self.ours, self.theirs, strict=True))
        median = statistics.median(ratios)
        verdict = f"{self.aim:.2f} {'reached' if median >= self.aim else 'missed'}" if self.aim else "-"
        return (
            f"{self.what:<30} {statistics.median(self.ours):>9.1f} {statistics.median(self.theirs):>9.1f} "
            f"{median:>7.3f}   {ratios[0]:.3f} to {ratios[-1]:.3f}   {verdict}"
        )


def hardware() -> str:
    """Name the machine and the versions that the figures hang on."""
    file = Path("/proc/cpuinfo")
    lines = file.read_text(encoding="utf-8").splitlines() if file.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    device = f", {torch.cuda.get_device_name()}" if torch.cuda.is_available() else ""
    return (
        f"{names[0] if names else platform.processor() or platform.machine()}, {os.cpu_count()} cores, "
        f"{torch.get_num_threads()} thread(s){device}; torch {torch.__version__}, torchvision "
        f"{torchvision.__version__}, OpenCV {cv2.__version__}, Pillow {PIL.__version__}"
    )
