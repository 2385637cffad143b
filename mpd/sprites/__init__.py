"""A small trained image-to-video model of SVD's architecture, and the synthetic world that it was trained on.

`PATH` is the model that ships, a folder for `mpd.load`. Importing this loads neither torch nor OpenCV.
"""

from __future__ import annotations

from pathlib import Path

PATH = Path(__file__).parent / "weights"
