"""Writes the three trained networks as a folder in diffusers' format, in half precision, for `mpd.svd.model.load`."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

from mpd.sprites import networks
from mpd.tiny import write_index


def write(folder: Path, unet: Any, autoencoder: Any, image_encoder: Any) -> Path:
    """Write the model's folder, made if missing; a model card already in it stays."""
    for name, network in (("unet", unet), ("vae", autoencoder), ("image_encoder", image_encoder)):
        half = copy.deepcopy(network).half().eval()
        half.save_pretrained(folder / name, safe_serialization=True)
    networks.scheduler().save_pretrained(folder / "scheduler")
    write_index(folder)
    for path in folder.rglob("*.safetensors"):
        path.chmod(0o644)  # they are written readable by their owner alone
    return folder
