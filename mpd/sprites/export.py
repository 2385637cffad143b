"""Writes the three trained networks as a folder in diffusers' format, in half precision, for `mpd.svd.model.load`."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mpd.sprites import networks
from mpd.tiny import CLIP_MEAN, CLIP_STD

INDEX = {
    "_class_name": "StableVideoDiffusionPipeline",
    "feature_extractor": ["transformers", "CLIPImageProcessor"],
    "image_encoder": ["transformers", "CLIPVisionModelWithProjection"],
    "scheduler": ["diffusers", "EulerDiscreteScheduler"],
    "unet": ["diffusers", "UNetSpatioTemporalConditionModel"],
    "vae": ["diffusers", "AutoencoderKLTemporalDecoder"],
}
EXTRACTOR = {
    "image_processor_type": "CLIPImageProcessor",
    "crop_size": {"height": 224, "width": 224},
    "size": {"shortest_edge": 224},
    "image_mean": CLIP_MEAN,
    "image_std": CLIP_STD,
    "resample": 3,
}


def write(folder: Path, unet: Any, autoencoder: Any, image_encoder: Any) -> Path:
    """Write the model's folder, made if missing; a model card already in it stays."""
    for name, network in (("unet", unet), ("vae", autoencoder), ("image_encoder", image_encoder)):
        half = copy.deepcopy(network).half().eval()
        half.save_pretrained(folder / name, safe_serialization=True)
    networks.scheduler().save_pretrained(folder / "scheduler")
    _write(folder / "feature_extractor" / "preprocessor_config.json", EXTRACTOR)
    _write(folder / "model_index.json", INDEX)
    for path in folder.rglob("*.safetensors"):
        path.chmod(0o644)  # they are written readable by their owner alone
    return folder


def _write(path: Path, content: Mapping[str, object]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=2) + "\n")
