"""SVD on CUDA close to the limit of the card: exact rewrites of the UNet and the VAE's decoder, and two approximations.

    off     diffusers' modules as they are
    exact   the same numbers to rounding: every rewrite below, compiled on CUDA
    max     exact, and deep features reused across steps (reuse.py), and feed-forwards in fp8 (fp8.py) on cards with it

Each rewrite is a module of its own, with a function `rewrite(root)` that makes it alone, where it stands, in diffusers'
modules: temporal_convolution, self_attention, cross_attention, blending, normalization. All of them together are
`unet.UNet` and `decoder.rewrite`, which leave out more: tokens never move, and what the noise level, the image and
the frames' numbers add is computed once. Knows nothing of samplers. `import mpd.svd.accelerate` loads no torch.
"""

from __future__ import annotations

from typing import Literal, get_args

Acceleration = Literal["off", "exact", "max"]
ACCELERATIONS: tuple[Acceleration, ...] = get_args(Acceleration)
