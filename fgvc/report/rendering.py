"""HTML from the templates beside this file. They escape every word that is handed to them."""

import base64
import hashlib
import math
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from fgvc.report.charts import LEFT, MATRIX_LABELS, RIGHT, WIDTH, percent


def render(template: str, **values: Any) -> str:
    """Return a template of `templates/`, filled with values."""
    return environment().get_template(template).render(**values)


@cache
def environment() -> Environment:
    """Return the templates with the filters that write numbers as people do."""
    templates = Environment(
        loader=FileSystemLoader(Path(__file__).with_name("templates")),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    templates.filters |= {"percent": percent, "tenths": tenths, "sha256": _sha256}
    templates.globals |= {"WIDTH": WIDTH, "LEFT": LEFT, "RIGHT": RIGHT, "MATRIX_LABELS": MATRIX_LABELS}
    return templates


def tenths(value: float) -> str:
    """Return a share to a tenth of a percent, a dash where there is none."""
    return f"{value * 100:.1f}\u00a0%" if math.isfinite(value) else "–"


def _sha256(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
