"""One evaluation of SVD-XT's UNet on this card, in every form: `python -m benchmarks.unet`.

diffusers' UNet as it is, compiled, and under autocast as in the reference loop; each exact rewrite alone in it; all of
them together, eager, compiled, and as a CUDA graph; and the approximations of `max`. Of each: milliseconds, TFLOP/s
against the ceiling that this card reaches with large products, peak memory, seconds of compiling without and with code
on disk, and the error against the untouched UNet in float32. Then its largest self-attentions by each back end. Weights
are random, so none need be there. On a CPU: --small.
"""

from __future__ import annotations

import sys

from benchmarks.card import runs, unets

if __name__ == "__main__":
    sys.exit(runs.main("unet", __doc__, unets, None))
