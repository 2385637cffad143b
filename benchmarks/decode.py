"""Decoding a video with SVD-XT's VAE on this card, in every form: `python -m benchmarks.decode`.

diffusers' decoder as its pipeline runs it, compiled, and in float32 four frames at a time as in the reference loop;
each exact rewrite alone in it; all of them together, eager and compiled; in chunks that fade into each other. Of each
what `python -m benchmarks.unet` tells of the UNet. Weights are random, so none need be there. On a CPU: --small.
"""

from __future__ import annotations

import sys

from benchmarks.card import decoders, runs

if __name__ == "__main__":
    sys.exit(runs.main("decode", __doc__, decoders, None))
