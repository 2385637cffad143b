"""The three networks of the small model and its schedule, in diffusers' and transformers' own classes.

Says how large they are and nothing of how they are trained. Every class is SVD's own; only sizes differ, so that
whatever loads SVD loads this.
"""

from __future__ import annotations

from typing import Any

from diffusers import AutoencoderKLTemporalDecoder, EulerDiscreteScheduler, UNetSpatioTemporalConditionModel
from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

from mpd.sprites import world

EMBEDDING = 64  # numbers in the CLIP embedding: one token of the UNet's cross-attention
LATENT_CHANNELS = 4
FACTOR = 8  # pixels per latent, each way


def autoencoder() -> Any:
    """Build an AutoencoderKLTemporalDecoder with a factor of 8: 64x64 pixels become 8x8 latents of 4 channels."""
    return AutoencoderKLTemporalDecoder(
        down_block_types=("DownEncoderBlock2D",) * 4,
        block_out_channels=(32, 32, 64, 96),
        layers_per_block=1,
        latent_channels=LATENT_CHANNELS,
        sample_size=world.SIZE,
        scaling_factor=1.0,
    )


def image_encoder() -> Any:
    """Build a CLIPVisionModelWithProjection that takes 224x224 in patches of 32."""
    return CLIPVisionModelWithProjection(
        CLIPVisionConfig(
            hidden_size=96,
            intermediate_size=192,
            num_hidden_layers=3,
            num_attention_heads=4,
            image_size=224,
            patch_size=32,
            projection_dim=EMBEDDING,
        )
    )


def unet() -> Any:
    """Build a UNetSpatioTemporalConditionModel over 8x8 latents: convolutions there, attention at 4x4.

    Attention at 8x8 would double the cost of a step. 64 channels are the fewest at which a group of the normalisation
    holds two, so that a channel's mean over the picture is not lost.
    """
    return UNetSpatioTemporalConditionModel(
        sample_size=world.SIZE // FACTOR,
        in_channels=2 * LATENT_CHANNELS,
        out_channels=LATENT_CHANNELS,
        down_block_types=("DownBlockSpatioTemporal", "CrossAttnDownBlockSpatioTemporal"),
        up_block_types=("CrossAttnUpBlockSpatioTemporal", "UpBlockSpatioTemporal"),
        block_out_channels=(64, 128),
        addition_time_embed_dim=32,
        projection_class_embeddings_input_dim=96,
        layers_per_block=1,
        cross_attention_dim=EMBEDDING,
        num_attention_heads=(2, 4),
        num_frames=world.FRAMES,
    )


def scheduler() -> Any:
    """Build SVD-XT's scheduler: v-prediction, Karras sigmas from 700 to 0.002."""
    return EulerDiscreteScheduler(
        beta_end=0.012,
        beta_schedule="scaled_linear",
        beta_start=0.00085,
        interpolation_type="linear",
        num_train_timesteps=1000,
        prediction_type="v_prediction",
        sigma_max=700.0,
        sigma_min=0.002,
        steps_offset=1,
        timestep_spacing="leading",
        timestep_type="continuous",
        use_karras_sigmas=True,
    )
