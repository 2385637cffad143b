"""Draw the example keyframes: a camera that moves in on a cup of coffee, and the two ends of an arrow's flight.

Run with scikit-image and this project installed: `python examples/keyframes/make.py`. The photograph is
scikit-image's `data.coffee()` (CC0, Rachel Michetti); what is done to it here is a crop, a turn and a change of scale.
"""

from __future__ import annotations

from pathlib import Path

from PIL import Image
from skimage import data

from mpd.sprites import world

SIZE = (640, 360)
VIEWS = {  # centre of the view in the photograph, its width there, its turn in degrees
    "start.jpg": ((300.0, 169.0), 598.0, 0.0),
    "end.jpg": ((322.0, 176.0), 450.0, -7.0),
}
ARROW = world.seeds("held-out", 116)[115]
"""A clip that the sprite model was not trained on: 7 frames per second, motion bucket 157."""


def view(photograph: Image.Image, centre: tuple[float, float], width: float, turn: float) -> Image.Image:
    """Draw what a camera sees of the photograph."""
    large = photograph.resize((photograph.width * 4, photograph.height * 4), Image.Resampling.LANCZOS)
    x, y, half = centre[0] * 4, centre[1] * 4, width * 2
    turned = large.rotate(turn, Image.Resampling.BICUBIC, center=(x, y))
    height = half * SIZE[1] / SIZE[0]
    return turned.resize(SIZE, Image.Resampling.LANCZOS, box=(x - half, y - height, x + half, y + height))


if __name__ == "__main__":
    coffee = Image.fromarray(data.coffee())
    for name, (centre, width, turn) in VIEWS.items():
        view(coffee, centre, width, turn).save(Path(__file__).with_name(name), quality=90, optimize=True)
    clip = world.render(world.scene(ARROW))
    for name, frame in (("arrow-start.png", clip[0]), ("arrow-end.png", clip[-1])):
        Image.fromarray(frame).save(Path(__file__).with_name(name), optimize=True)
