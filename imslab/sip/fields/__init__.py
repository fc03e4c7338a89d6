"""Typed header fields, one file for each family: `parse(text)` reads one value, `str(field)` writes it."""
