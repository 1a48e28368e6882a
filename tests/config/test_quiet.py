import logging
import os
import warnings

import pytest

from fgvc.config import quiet


@pytest.fixture
def silenced(monkeypatch):
    for name in ("NO_ALBUMENTATIONS_UPDATE", "HF_HUB_DISABLE_TELEMETRY"):
        monkeypatch.setenv(name, "before")
        monkeypatch.delenv(name)
    levels = {name: logging.getLogger(name).level for name in quiet.LOUD_LOGGERS}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        quiet.libraries()
        yield
    for name, level in levels.items():
        logging.getLogger(name).setLevel(level)


@pytest.mark.usefixtures("silenced")
def test_promotion_and_advice_for_nobody_are_silenced():
    assert os.environ["NO_ALBUMENTATIONS_UPDATE"] == "1"
    assert not logging.getLogger("pytorch_lightning").isEnabledFor(logging.WARNING)
    assert logging.getLogger("timm.models._builder").isEnabledFor(logging.ERROR)
    for message in (
        "The 'train_dataloader' does not have many workers which may be a bottleneck.",
        "Corrupt EXIF data.  Expecting to read 2 bytes but only got 0. ",
        "Image size (96993600 pixels) exceeds limit of 89478485 pixels, could be decompression bomb DOS attack.",
    ):
        warnings.warn(message, UserWarning, stacklevel=1)


@pytest.mark.usefixtures("silenced")
def test_real_warnings_and_our_own_log_stay():
    with pytest.raises(RuntimeWarning, match="overflow"):
        warnings.warn("overflow encountered in exp", RuntimeWarning, stacklevel=1)
    assert logging.getLogger("fgvc").getEffectiveLevel() <= logging.WARNING


def test_what_the_user_set_is_kept(monkeypatch):
    monkeypatch.setenv("NO_ALBUMENTATIONS_UPDATE", "0")
    with warnings.catch_warnings():
        quiet.libraries()
    assert os.environ["NO_ALBUMENTATIONS_UPDATE"] == "0"
