"""Which base model a folder or a hub id holds, by `_class_name` in its model_index.json; the rest is the base's.

Loads no torch before a base is found. Knows nothing of weights or devices.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

from mpd import hub
from mpd.base import Base, ModelError

INDEX_FILE = "model_index.json"

BASES: dict[str, str] = {"StableVideoDiffusionPipeline": "mpd.svd.model"}
"""The classes known, each with the module whose `load` reads it, which is imported when it is needed."""


class Load(Protocol):
    """A base's own `load`, with the parameters of the one below."""

    def __call__(
        self,
        source: str,
        *,
        revision: str | None,
        variant: str | None,
        device: str,
        dtype: str,
        accelerate: str,
        compile_cache: Path | None,
    ) -> Base: ...


def load(
    source: str | Path,
    *,
    revision: str | None = None,
    variant: str | None = None,
    device: str = "auto",
    dtype: str = "auto",
    accelerate: str = "auto",
    compile_cache: Path | None = None,
) -> Base:
    """Load a base model from a folder in diffusers' format or from the hub by its id.

    revision and variant (such as `fp16`) are the hub's; a folder that holds one variant alone needs no naming of it.
    device: `auto` (CUDA if there is one), `cpu`, `cuda` or `cuda:1`. dtype: `auto` (float16 on CUDA, float32 on CPU),
    `float16`, `bfloat16` or `float32`. accelerate: `auto` (exact on CUDA, off on CPU), `off`, `exact` or `max`, which
    approximates. compile_cache: a folder that keeps compiled code for the next start.
    Raises `ModelError`, one line that says what is wrong.
    """
    with _no_collection():
        base: Load = importlib.import_module(BASES[class_name(str(source), revision)]).load
        return base(
            str(source),
            revision=revision,
            variant=variant,
            device=device,
            dtype=dtype,
            accelerate=accelerate,
            compile_cache=compile_cache,
        )


@contextlib.contextmanager
def _no_collection() -> Iterator[None]:
    """Collect no garbage: what libraries make while they are read lasts, and looking takes a fifth of the time."""
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()


def class_name(source: str, revision: str | None = None) -> str:
    """Read which of the classes known a folder or hub id holds. Raises `ModelError`."""
    index = _index(source, revision)
    try:
        content = json.loads(index.read_text())
    except (OSError, ValueError) as error:
        raise ModelError(f"{source}: {INDEX_FILE} cannot be read: {hub.first_line(error)}") from error
    found = content.get("_class_name") if isinstance(content, dict) else None
    if not isinstance(found, str):
        raise ModelError(f"{source}: {INDEX_FILE} names no _class_name; {_known()}")
    if found not in BASES:
        raise ModelError(f"{source}: is a {found[:80]!r}, for which there is no base model here; {_known()}")
    return found


def _index(source: str, revision: str | None) -> Path:
    """Find the model's index in a folder, or fetch it from the hub where it is not in the cache yet."""
    folder = Path(source).expanduser()
    if folder.is_dir():
        index = folder / INDEX_FILE
        if not index.is_file():
            raise ModelError(f"{source}: has no {INDEX_FILE}; {_known()}")
        return index
    if not hub.is_id(source):
        raise ModelError(f"{source}: no such folder, and not a hub id (owner/name)")
    try:
        found = hub.file(source, revision, INDEX_FILE)
    except hub.HubError as error:
        raise ModelError(f"{source}: no such folder, and the hub does not give it: {error}") from error
    if found is None:
        raise ModelError(f"{source}: has no {INDEX_FILE}; {_known()}")
    return found


def _known() -> str:
    return f"known is a diffusers folder of {' or '.join(BASES)}"
