"""What `import fgvc` offers."""

import subprocess
import sys

import pytest

import fgvc
from fgvc.errors import UsageError

OFFERED = {"FgvcError", "Predictor", "TrainedRun", "UsageError", "fit", "load", "predict", "test", "validate"}


def test_everything_is_shown_before_anything_heavy_is_imported():
    script = (
        "import sys, fgvc\n"
        "print(*(name for name in dir(fgvc) if not name.startswith('_')))\n"
        "print(*{'torch', 'numpy', 'timm', 'PIL', 'pytorch_lightning'} & set(sys.modules))\n"
        "fgvc.fit, fgvc.test, fgvc.predict, fgvc.UsageError\n"
        "print(*{'torch', 'timm', 'pytorch_lightning'} & set(sys.modules))\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == [" ".join(sorted(OFFERED)), "", ""]


def test_all_that_is_shown_is_there_with_a_docstring():
    assert set(fgvc.__all__) == OFFERED
    assert all(getattr(fgvc, name).__doc__ for name in OFFERED)
    assert fgvc.UsageError is UsageError
    with pytest.raises(AttributeError, match="has no attribute 'fitt'"):
        fgvc.fitt  # noqa: B018
