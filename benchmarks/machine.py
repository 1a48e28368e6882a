"""The machine and the versions that a figure hangs on."""

import os
import platform
from pathlib import Path

import cv2
import PIL
import torch
import torchvision  # type: ignore[import-untyped]


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
