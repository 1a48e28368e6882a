"""A box: where on a photograph something is."""

Box = tuple[float, float, float, float]
