"""Makes docs/reference/lab-yaml.md from the model: `python -m tests.lab_yaml_page`. A test compares the two."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from imslab.config import LabConfig, SubscriberConfig

PAGE = Path(__file__).resolve().parent.parent / "docs/reference/lab-yaml.md"

HEAD = """# lab.yaml

What a lab is made of. No key is mandatory: without a file, the lab has two subscribers with the published keys of
TS 35.208 test sets 1 and 3. A key that is not in this table is an error. `imslab run -c lab.yaml` reads it.

A value from the environment wins over the file: `IMSLAB_SEED=7`, `IMSLAB_SCSCF__EXPIRES_MIN=60` (two underscores go one
level down; the value is YAML). Keys and digits stand in quotes, so that leading zeros count.

| key | default | meaning |
| --- | --- | --- |
"""


def rows(model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    """One table row per key of a model, parts of it included."""
    for name, info in model.model_fields.items():
        kind = info.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            yield from rows(kind, f"{prefix}{name}.")
        elif name == "subscribers":
            yield f"| {prefix}{name} | the two | {info.description} |"
            yield from rows(SubscriberConfig, f"{prefix}{name}[].")
        else:
            yield f"| {prefix}{name} | {default_of(info)} | {info.description} |"


def default_of(info: FieldInfo) -> str:
    """The default as YAML would have it, short."""
    if info.default is PydanticUndefined:
        return "mandatory"
    value = info.default
    if value is None or value == "" or value == ():
        return "–"
    if isinstance(value, tuple):
        return ", ".join(f"[{', '.join(each)}]" if isinstance(each, tuple) else str(each) for each in value)
    return str(value).lower() if isinstance(value, bool) else str(value)


def page() -> str:
    """The whole page."""
    return HEAD + "\n".join(rows(LabConfig)) + "\n"


if __name__ == "__main__":
    PAGE.write_text(page())
