"""The ideal world: so few clips that the perfect denoiser, and every right answer to two keyframes, is known exactly.

A sprite of two blobs, a body and ahead of it a nose, moves along an arc where it faces. From a state (x, y, heading)
there is one future per distance, turn and pace; pace alone changes nothing at either end, so that several clips join
the same two keyframes: p(clip | start, end) is known, and a sampler can be asked whether it finds all of it.
The picture is a torus: no edge is near. Nothing is learnt here, and nothing is known of samplers.

Clips are (N, C, H, W) float64. A sampler that is given (N, S·C, H, W) samples S clips side by side.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mpd.sprites import track

SIZE = 16  # pixels; every way is shorter than half of it, so that no two ways around the torus end alike
FRAMES = 9
CHANNELS = 2  # body, nose
REACH = 1.0  # pixels from the sprite's middle to either blob
WIDTH = 3.0  # pixels²: a blob is exp(−r²/WIDTH)
DISTANCES = tuple(float(distance) for distance in np.linspace(1.5, 7.0, 6))  # pixels along the arc, whole clip
TURNS = tuple(float(turn) for turn in np.linspace(-1.8, 1.8, 7))  # radians, whole clip
PACES = (-0.8, -0.4, 0.0, 0.4, 0.8)  # at time t of 1 the sprite is t + pace·t(1−t) of its way along
SAME = 1e-9  # two last frames closer than this in every pixel are one
REVERSE = 0.25  # pixels against the heading, over three frames, that are reverse play: as the trained world's 1 of 64
FAINT = 0.25  # of a blob's mass, below which it is not there
Array = NDArray[np.float64]


@dataclass(frozen=True)
class Law:
    """What the sprites of a world do."""

    #: Of the clips, those in which the sprite moves against its heading; 0 is a wholly forward prior.
    reversed_share: float = 0.0
    #: Body and nose look alike in both channels, so that no picture shows the heading.
    headless: bool = False
    #: The denoiser weighs the clips for each frame by that frame's ±window neighbours; None is by all frames.
    window: int | None = None
    #: How a way is travelled; with one pace two keyframes have one answer.
    paces: tuple[float, ...] = PACES
    #: The true clip's distance and turn lie halfway between those of the denoiser's clips: no clip that it knows ends
    #: at the end frame, as with a model that has not quite seen this motion.
    between: bool = False


@dataclass(frozen=True)
class Clips:
    """A distribution over K clips."""

    #: (K, N, C, H, W).
    frames: Tensor
    #: (K,), they sum to 1.
    shares: Tensor

    def mean(self, x: Tensor, sigma: float, window: int | None) -> Tensor:
        """Compute E[y | y + σn = x] for clips y; x: (N, S·C, H, W).

        With a window, frame by frame from its neighbours alone.
        """
        known, half_norms = self._known
        seen = x.reshape(len(x), -1, known.shape[2])  # (N, S, D)
        scores = torch.baddbmm(-half_norms, seen, known.transpose(1, 2)) / sigma**2  # (N, S, K)
        if window is None:
            scores = scores.sum(0, keepdim=True).expand(len(x), -1, -1)
        else:
            scores = torch.einsum("mn,nsk->msk", _band(len(x), window, x), scores)
        return (torch.softmax(scores + self.shares.log(), 2) @ known).reshape(x.shape)

    @cached_property
    def _known(self) -> tuple[Tensor, Tensor]:
        """(N, K, D) frames, and (N, 1, K) half their squared norms."""
        known = self.frames.flatten(2).transpose(0, 1).contiguous()
        return known, known.square().sum(2)[:, None] / 2


@dataclass(frozen=True)
class Ideal:
    """The perfect denoiser: `conditional` clips for x̂0_c, `all` for x̂0_∅. A `mpd.base.Denoiser`."""

    conditional: Clips
    all: Clips
    window: int | None = None

    def __call__(self, x: Tensor, sigma: float, need_uncond: bool = True) -> tuple[Tensor, Tensor | None]:
        x0_c = self.conditional.mean(x, sigma, self.window)
        return x0_c, self.all.mean(x, sigma, self.window) if need_uncond else None


@dataclass(frozen=True)
class Question:
    """Two keyframes and what is known of the clips between them."""

    #: (N, C, H, W), the clip whose first and last frame the keyframes are.
    truth: Tensor
    #: p(clip | start, end): the futures of the start that end at the end frame, by their prior shares.
    answers: Clips
    #: The perfect denoiser given the start keyframe; it knows the futures of its own state, and so does `end`.
    start: Ideal
    #: The perfect denoiser given the end keyframe.
    end: Ideal


def question(seed: int, law: Law | None = None, distance: float | None = None) -> Question:
    """Make the question of a seed. `distance`, one of `DISTANCES`, says how far the sprite goes; drawn if not given."""
    law = law or Law()
    random = np.random.default_rng([20261123, seed])
    state = _state(random)
    start, _ = futures(state, law)
    way = _chosen(random, law, distance)
    end, _ = futures(_travel(state, way, np.ones(1))[0], law)
    parts = [start, end, _anywhere(random, law)]
    everything = Clips(
        torch.cat([part.frames for part in parts]), torch.cat([part.shares for part in parts]) / len(parts)
    )
    truth = render(places(state, way)[None], law.headless)[0]
    return Question(
        truth,
        _answers(state, way, start, law),
        Ideal(start, everything, law.window),
        Ideal(end, everything, law.window),
    )


Way = tuple[float, float, float]
"""Distance (negative: against the heading), turn, pace."""


def futures(state: Array, law: Law) -> tuple[Clips, list[Way]]:
    """List all clips that begin in a state (x, y, heading), with their prior shares, and what happens in each."""
    ways = [(d, turn, pace) for d in DISTANCES for turn in TURNS for pace in law.paces]
    shares = np.full(len(ways), (1 - law.reversed_share) / len(ways))
    if law.reversed_share > 0:
        ways += [(-d, turn, pace) for d, turn, pace in ways]
        shares = np.concatenate([shares, np.full(len(shares), law.reversed_share / len(shares))])
    return Clips(render(np.stack([places(state, way) for way in ways]), law.headless), torch.from_numpy(shares)), ways


def _chosen(random: np.random.Generator, law: Law, distance: float | None) -> Way:
    if distance is not None and distance not in DISTANCES:
        raise ValueError(f"no sprite goes {distance} pixels; choose of {DISTANCES}")
    drawn, turn, pace = (float(random.choice(choices)) for choices in (DISTANCES, TURNS, law.paces))
    distance = drawn if distance is None else distance
    if law.between:
        return distance + (DISTANCES[1] - DISTANCES[0]) / 2, turn + (TURNS[1] - TURNS[0]) / 2, pace
    return distance, turn, pace


def _answers(state: Array, way: Way, start: Clips, law: Law) -> Clips:
    """Find the clips from a state that end where a way does.

    They are each pace of it, and of the futures whichever else does.
    """
    paced = render(np.stack([places(state, (*way[:2], pace)) for pace in law.paces]), law.headless)
    if law.between:
        return Clips(paced, torch.full((len(paced),), 1 / len(paced), dtype=torch.float64))
    arrives = (start.frames[:, -1] - paced[0, -1]).abs().amax((1, 2, 3)) < SAME
    shares = start.shares[arrives]
    return Clips(start.frames[arrives], shares / shares.sum())


def places(state: Array, way: Way) -> Array:
    """Give x, y and heading in every frame, (N, 3); x and y may leave [0, SIZE), the picture comes round."""
    t = np.linspace(0, 1, FRAMES)
    return _travel(state, way, t + way[2] * t * (1 - t))


def render(tracks: Array, headless: bool = False) -> Tensor:
    """Draw places (K, N, 3) as pictures (K, N, C, H, W)."""
    ahead = REACH * np.stack([np.cos(tracks[..., 2]), np.sin(tracks[..., 2])], axis=-1)
    body, nose = _blob(tracks[..., :2] - ahead), _blob(tracks[..., :2] + ahead)
    if headless:
        body = nose = (body + nose) / 2
    return torch.from_numpy(np.stack([body, nose], axis=2))


def located(clip: Tensor) -> Array:
    """Find where the sprite of a clip (N, C, H, W) is and points, by its blobs' centres of mass: (N, 3).

    x and y go on past the picture's edge. NaN where a blob is missing. A headless sprite has no heading to be found.
    """
    body, nose = (_centre(clip[:, channel].numpy()) for channel in range(CHANNELS))
    apart = _shortest(nose - body)
    middle = body + apart / 2
    steps = _shortest(np.diff(middle, axis=0))
    whole = np.concatenate([middle[:1], middle[:1] + np.cumsum(steps, axis=0)])
    return np.concatenate([whole, np.arctan2(apart[:, 1], apart[:, 0])[:, None]], axis=1)


def plays_reversed(clip: Tensor) -> bool:
    """Tell whether the sprite moves against its heading by more than `REVERSE` pixels over any three steps in a row."""
    return track.plays_reversed(located(clip), by=REVERSE)


def energy_distance(samples: Tensor, answers: Clips) -> float:
    """Measure the energy distance between S ≥ 2 sampled clips and p(clip | start, end) (Székely & Rizzo 2013).

    It is 2 E‖X − Y‖ − E‖X − X'‖ − E‖Y − Y'‖. samples: (S, N, C, H, W). Norms are root mean squares over a clip's
    values. Unbiased: pairs of one sample with itself are left out, so that exact draws have a mean of 0 and a single
    set of them may fall below it.
    """
    x, y = samples.flatten(1), answers.frames.flatten(1)
    shares, root = answers.shares, x.shape[1] ** 0.5
    across = (torch.cdist(x, y) @ shares).mean() / root
    within = torch.cdist(x, x).sum() / (len(x) * (len(x) - 1)) / root
    known = shares @ torch.cdist(y, y) @ shares / root
    return float(2 * across - within - known)


def coverage(samples: Tensor, answers: Clips, decibels: float = 25.0) -> float:
    """Measure the share of p(clip | start, end) that the samples reach.

    An answer is reached when it is some sample's nearest one, and that sample within `decibels` of it (PSNR, peak 1).
    """
    squared = torch.cdist(samples.flatten(1), answers.frames.flatten(1)).square() / samples[0].numel()
    error, nearest = squared.min(1)
    reached = set(nearest[error <= 10 ** (-decibels / 10)].tolist())
    return float(sum(answers.shares[k] for k in reached))


def _state(random: np.random.Generator) -> Array:
    return np.array([*random.uniform(0, SIZE, 2), random.uniform(0, 2 * np.pi)])


def _anywhere(random: np.random.Generator, law: Law) -> Clips:
    """Draw as many clips as a state has futures, each from a state of its own."""
    count = len(DISTANCES) * len(TURNS) * len(law.paces)
    tracks = []
    for _ in range(count):
        sign = -1 if random.random() < law.reversed_share else 1
        way = (sign * float(random.choice(DISTANCES)), float(random.choice(TURNS)), float(random.choice(law.paces)))
        tracks.append(places(_state(random), way))
    return Clips(render(np.stack(tracks), law.headless), torch.full((count,), 1 / count, dtype=torch.float64))


def _travel(state: Array, way: Way, part: Array) -> Array:
    """Give the places (M, 3) at (M,) parts of the way, an arc: its chord points along the mean of both headings."""
    distance, turn, _ = way
    half = turn * part / 2
    chord = distance * part * np.sinc(half / np.pi)
    x, y = state[0] + chord * np.cos(state[2] + half), state[1] + chord * np.sin(state[2] + half)
    return np.stack([x, y, state[2] + 2 * half], axis=1)


def _blob(centres: Array) -> Array:
    """Draw a blob at each centre: (..., 2) x and y to (..., H, W)."""
    grid = np.arange(SIZE)
    across, down = (np.exp(-(_shortest(grid - centres[..., axis, None]) ** 2) / WIDTH) for axis in (0, 1))
    picture: Array = down[..., :, None] * across[..., None, :]
    return picture


def _centre(channel: Array) -> Array:
    """Find each picture's centre of mass on the torus, x and y: (N, H, W) to (N, 2).

    NaN where there is next to none.
    """
    turns = np.exp(2j * np.pi * np.arange(SIZE) / SIZE)
    around = np.stack([channel.sum(1) @ turns, channel.sum(2) @ turns], axis=1)
    centre = np.angle(around) * SIZE / (2 * np.pi)
    whole = np.pi * WIDTH
    centre[channel.sum((1, 2)) < FAINT * whole] = np.nan
    return np.asarray(centre, dtype=np.float64)


def _shortest(gap: Any) -> Array:
    """Take a distance along one axis of the torus the short way round, in [-SIZE/2, SIZE/2)."""
    return np.asarray((gap + SIZE / 2) % SIZE - SIZE / 2, dtype=np.float64)


def _band(frames: int, window: int, like: Tensor) -> Tensor:
    """Mark with 1 where two frames are at most `window` apart: (N, N)."""
    index = torch.arange(frames)
    return ((index[:, None] - index).abs() <= window).to(like.dtype)
