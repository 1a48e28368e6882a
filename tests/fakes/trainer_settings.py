"""The settings of a trainer as a parsed config holds them: Lightning's defaults and those of fgvc."""

import inspect

from pytorch_lightning import Trainer

DEFAULTS = {name: one.default for name, one in list(inspect.signature(Trainer.__init__).parameters.items())[1:]}
SETTINGS = DEFAULTS | {"accelerator": "cpu", "devices": "1", "max_epochs": 1, "use_distributed_sampler": False}
