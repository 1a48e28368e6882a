"""Where a file of our own comes from: time, versions, machine, command."""

import os
import platform
import sys
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from typing import Any

TRAINING = ("fgvc", "torch", "torchvision", "timm", "pytorch-lightning", "albumentations", "opencv-python-headless")
"""What a training run hangs on."""
PREDICTION = ("fgvc", "torch", "timm", "numpy", "pillow")
"""What decides about pixels and numbers of a prediction, beside OpenCV."""


def environment() -> dict[str, Any]:
    """Return time, versions, machine and command line, without the path of the program: models are shared."""
    import torch  # seconds: only for the names of GPUs

    return {
        "date": now(),
        "command": ["fgvc", *sys.argv[1:]],
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpus": os.cpu_count(),
        "gpus": [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())],
        "packages": {name: _version(name) for name in TRAINING},
    }


def versions() -> dict[str, str]:
    """Return the versions of what decides about pixels and numbers."""
    import cv2  # OpenCV comes under several names of packages

    return {
        "python": platform.python_version(),
        **{name: version(name) for name in PREDICTION},
        "opencv": cv2.__version__,
    }


def now() -> str:
    """Return the time in UTC as ISO 8601, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"
