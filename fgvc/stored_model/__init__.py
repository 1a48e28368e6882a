"""A model as files: what they may hold, how older ones are read, and what lies there instead."""
