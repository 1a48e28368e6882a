"""Every module of this folder is imported with it, so that its classes are known by their short names."""

import importlib
import pkgutil

for _module in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_module.name}")
