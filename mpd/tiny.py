"""A random model of SVD-XT's architecture, small enough for one core: `python -m mpd.tiny FOLDER`.

What it makes is noise: it has SVD's parts, shapes and folder layout, and weights nobody trained. It lets every line of
the sampling path run, and be compared with other implementations, where the real weights cannot be had.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import torch
from diffusers import AutoencoderKLTemporalDecoder, EulerDiscreteScheduler, UNetSpatioTemporalConditionModel
from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

from mpd.svd.weights import no_progress_bars

FRAMES = 8
SIZE = 64
CHANNELS = 32
"""The narrowest that the 32 groups of every normalisation allow. Where it is all there is, each channel is normalised
alone, which forgets what time, fps and flat colours add to it: so the inner levels are twice as wide."""
CLIP_MEAN = [0.48145466, 0.4578275, 0.40821073]
CLIP_STD = [0.26862954, 0.26130258, 0.27577711]
MODEL_INDEX = {
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


def build(folder: Path, seed: int = 0) -> Path:
    """Write the model into `folder` (made if missing) and return it. The same seed gives the same weights."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        unet, vae, image_encoder = _unet(), _vae(), _image_encoder()
    folder = Path(folder)
    unet.save_pretrained(folder / "unet")
    vae.save_pretrained(folder / "vae")
    with no_progress_bars():
        image_encoder.save_pretrained(folder / "image_encoder")
    scheduler().save_pretrained(folder / "scheduler")
    write_index(folder)
    (folder / "README.md").write_text("---\nlicense: apache-2.0\n---\nRandom weights, for trying the code out.\n")
    return folder


def write_index(folder: Path) -> None:
    """Write what says that a folder holds SVD, and how pictures come to its image encoder."""
    for name, content in (("model_index.json", MODEL_INDEX), ("feature_extractor/preprocessor_config.json", EXTRACTOR)):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(content, indent=2) + "\n")


def _unet() -> UNetSpatioTemporalConditionModel:
    return UNetSpatioTemporalConditionModel(
        sample_size=SIZE // 8,
        down_block_types=("CrossAttnDownBlockSpatioTemporal", "DownBlockSpatioTemporal"),
        up_block_types=("UpBlockSpatioTemporal", "CrossAttnUpBlockSpatioTemporal"),
        block_out_channels=(CHANNELS, 2 * CHANNELS),
        addition_time_embed_dim=CHANNELS,
        projection_class_embeddings_input_dim=3 * CHANNELS,
        layers_per_block=1,
        cross_attention_dim=CHANNELS,
        num_attention_heads=2,
        num_frames=FRAMES,
    )


def _vae() -> AutoencoderKLTemporalDecoder:
    return AutoencoderKLTemporalDecoder(
        down_block_types=("DownEncoderBlock2D",) * 4,
        block_out_channels=(CHANNELS, CHANNELS, CHANNELS, 2 * CHANNELS),
        layers_per_block=1,
        latent_channels=4,
        sample_size=SIZE,
        scaling_factor=0.18215,
        force_upcast=True,
    )


def _image_encoder() -> CLIPVisionModelWithProjection:
    config = CLIPVisionConfig(
        hidden_size=CHANNELS,
        intermediate_size=CHANNELS,
        projection_dim=CHANNELS,
        num_hidden_layers=1,
        num_attention_heads=2,
        image_size=224,
        patch_size=32,
    )
    return CLIPVisionModelWithProjection(config)


def scheduler() -> EulerDiscreteScheduler:
    """Build SVD's scheduler."""
    return EulerDiscreteScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        prediction_type="v_prediction",
        use_karras_sigmas=True,
        sigma_min=0.002,
        sigma_max=700.0,
        timestep_spacing="leading",
        timestep_type="continuous",
        steps_offset=1,
    )


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m mpd.tiny", description="Write a tiny random SVD model.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    build(arguments.folder, arguments.seed)


if __name__ == "__main__":
    main()
