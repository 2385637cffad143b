"""The files of a base model: found in a folder or on the hub, checked, read. Knows nothing of devices or pictures."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from mpd import calibration, hub
from mpd.base import ModelError
from mpd.calibration import Calibration
from mpd.hub import CONFIGS, first_line
from mpd.schedule import Schedule

PIPELINE = "StableVideoDiffusionPipeline"


@dataclass(frozen=True)
class Parts:
    """What was read. The modules are on the CPU; UNet and image encoder in the dtype asked for, the VAE in float32."""

    unet: Any
    vae: Any
    image_encoder: Any
    schedule: Schedule
    calibration: Calibration | None
    image_mean: tuple[float, ...]
    image_std: tuple[float, ...]
    revision: str | None
    license: str | None


def read(source: str, revision: str | None, variant: str | None, dtype: torch.dtype) -> Parts:
    """Find and read all parts of `source`; the UNet and image encoder in `dtype`. Raises `ModelError`."""
    folder = Path(source).expanduser()
    if not folder.is_dir():
        folder = _fetch(source, revision, variant)
    configs = _configs(source, folder)
    scheduler, extractor = configs["scheduler"], configs["feature_extractor"]
    licence = hub.licence(folder / "README.md")
    unet, vae, image_encoder = _modules(source, folder, variant or _only_variant(folder), dtype)
    return Parts(
        unet,
        vae,
        image_encoder,
        schedule=Schedule(float(scheduler["sigma_min"]), float(scheduler["sigma_max"]), **_own(source, folder)),
        calibration=_calibration(source, folder),
        image_mean=tuple(extractor["image_mean"]),
        image_std=tuple(extractor["image_std"]),
        revision=folder.resolve().name if hub.is_commit(folder.resolve().name) else None,
        license=licence.name if licence else None,
    )


def _own(source: str, folder: Path) -> dict[str, Any]:
    """Read the schedule that a model's card names for requests that leave the steps open; nothing where it names none.

    Raises `ModelError`.
    """
    try:
        own = hub.own_schedule(folder / "README.md")
    except ValueError as error:
        raise ModelError(f"{source}: README.md: {error}") from error
    return {} if own is None else {"own_steps": own[0], "own_sigma_max": own[1]}


def _calibration(source: str, folder: Path) -> Calibration | None:
    try:
        return calibration.read(folder)
    except ValueError as error:
        raise ModelError(f"{source}: {error}") from error


def _fetch(source: str, revision: str | None, variant: str | None) -> Path:
    """Fetch the hub's snapshot of `source`, only the files that are read; from the cache alone under HF_HUB_OFFLINE."""
    if not hub.is_id(source):
        raise ModelError(f"{source}: no such folder, and not a hub id (owner/name)")
    try:
        return hub.snapshot(source, revision, variant)
    except hub.HubError as error:
        raise ModelError(f"{source}: no such folder, and the hub does not give it: {error}") from error


def _configs(source: str, folder: Path) -> dict[str, dict[str, Any]]:
    """Read every part's configuration, once it is sure that this is SVD's architecture."""
    index = _json(source, folder, "model_index.json")
    if index.get("_class_name") != PIPELINE:
        raise ModelError(f"{source}: is a {index.get('_class_name')}, not a {PIPELINE}")
    configs = {part: _json(source, folder, f"{part}/{name}") for part, name in CONFIGS.items()}
    unet, vae, scheduler = configs["unet"], configs["vae"], configs["scheduler"]
    if unet.get("in_channels") != 2 * unet.get("out_channels", 0) or vae.get("latent_channels") != unet["out_channels"]:
        raise ModelError(f"{source}: its UNet and VAE do not fit SVD's architecture (latent and image channels)")
    if scheduler.get("prediction_type") != "v_prediction" or not {"sigma_min", "sigma_max"} <= scheduler.keys():
        raise ModelError(f"{source}: its scheduler is not SVD's (v_prediction with sigma_min and sigma_max)")
    return configs


def _modules(source: str, folder: Path, variant: str | None, dtype: torch.dtype) -> tuple[Any, Any, Any]:
    from diffusers import AutoencoderKLTemporalDecoder, UNetSpatioTemporalConditionModel
    from safetensors import SafetensorError
    from transformers import CLIPVisionModelWithProjection

    options = {"variant": variant, "use_safetensors": True, "local_files_only": True}
    try:
        with no_progress_bars():
            return (
                UNetSpatioTemporalConditionModel.from_pretrained(folder / "unet", torch_dtype=dtype, **options),
                AutoencoderKLTemporalDecoder.from_pretrained(folder / "vae", torch_dtype=torch.float32, **options),
                CLIPVisionModelWithProjection.from_pretrained(folder / "image_encoder", **options).to(dtype),
            )
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise ModelError(f"{source}: its weights cannot be read: {first_line(error)}") from error


@contextlib.contextmanager
def no_progress_bars() -> Iterator[None]:
    """Silence transformers, which draws a bar for every read and write of weights, even of a few kilobytes."""
    from transformers.utils import logging

    enabled = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if enabled:
            logging.enable_progress_bar()


def _json(source: str, folder: Path, name: str) -> dict[str, Any]:
    try:
        content = json.loads((folder / name).read_text())
    except FileNotFoundError as error:
        raise ModelError(f"{source}: has no {name}; a diffusers folder of {PIPELINE} is needed") from error
    except (OSError, ValueError) as error:
        raise ModelError(f"{source}: {name} cannot be read: {first_line(error)}") from error
    if not isinstance(content, dict):
        raise ModelError(f"{source}: {name} holds no configuration")
    return content


def _only_variant(folder: Path) -> str | None:
    """Name the variant of the UNet's weights where no plain ones lie beside them."""
    stems = {re.sub(r"-\d+-of-\d+", "", path.stem) for path in (folder / "unet").glob("*.safetensors")}
    variants = {stem.removeprefix("diffusion_pytorch_model").removeprefix(".") for stem in stems}
    return variants.pop() or None if len(variants) == 1 else None
