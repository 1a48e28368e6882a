"""Answers as tables: their columns and files, kept through a kill, with a note of where they came from."""
