"""Silence libraries: their promotion, deprecations and advice that the user cannot act on."""

import logging
import os
import warnings

LOUD_LOGGERS = ("pytorch_lightning", "lightning", "lightning_fabric", "timm", "huggingface_hub", "torch.distributed")
USELESS_WARNINGS = (
    # The number of workers is chosen by the datamodule from the cores of the machine.
    r".*does not have many workers.*",
    # Few batches per epoch are no fault; the CSV is written at the end of each epoch.
    r".*The number of training batches.*",
    # The run folder is claimed before Lightning looks at it.
    r".*Checkpoint directory .* exists and is not empty.*",
    r".*Experiment logs directory .* exists and is not empty.*",
    # No validation split was asked for (val_fraction: 0).
    r".*you have defined a `val.*",
    r".*defined a `validation_step` but have no `val_dataloader`.*",
    r".*Total length of `(DataLoader|list)` across ranks is zero.*",
    # The size that Lightning's table of layers estimates; the outline counts the numbers.
    r".*is not supported by the model summary.*",
    # Nothing is logged with `--trainer.barebones true`: who asks for that knows.
    r".*You are trying to `self\.log\(\)` but `Trainer\(barebones=True\)`.*",
    # Lightning's and timm's own use of what torch and others deprecate.
    r".*LeafSpec.*is deprecated.*",
    r".*treespec.*is deprecated.*",
    r".*`isinstance\(treespec.*",
    r".*torch\.jit\..*is deprecated.*",
    # Pillow about pictures that are readable (damaged EXIF, many pixels); unreadable ones are errors of ours.
    r"Corrupt EXIF data.*",
    r"Truncated File Read.*",
    r"Metadata Warning, tag .*",
    r"Tag data larger than file.*",
    r"Image size \(\d+ pixels\) exceeds limit .*",
    # The loss of a training epoch is that of the first process: a share of the same images.
    r".*It is recommended to use `self\.log\(.*sync_dist=True\)`.*",
    # A process without images takes part in the sum all the same.
    r".*``compute`` method of metric .* was called before the ``update`` method.*",
    # A frozen backbone stays in evaluation mode on purpose.
    r".*module\(s\) in eval mode at the start of training.*",
)


def libraries() -> None:
    """Silence the libraries; warnings of fgvc and of Python stay. Call it after they are imported."""
    os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    os.environ.setdefault("JSONARGPARSE_DEPRECATION_WARNINGS", "off")  # Lightning calls what jsonargparse deprecates
    for name in LOUD_LOGGERS:
        logging.getLogger(name).setLevel(logging.ERROR)
    for message in USELESS_WARNINGS:
        warnings.filterwarnings("ignore", message=message)
