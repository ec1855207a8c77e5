"""Lesions in images: twelve independent aspects of texture, shape and layout, each of which may carry an outcome.

Whatever the aspects, a lesion has the volume, the mean brightness and the contrast that it was given.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import ndtr

from simulation.phantoms.surfaces import Bumps, Surface, draw_surface
from simulation.phantoms.waves import Array, Axes, Waves, about, draw_waves, isotropic

_WAVES = 40  # of each part of a texture
_SKEW = 1.1  # of the islands


@dataclass(frozen=True)
class Aspects:
    """What a lesion looks like: a coin for each aspect, or a standard normal number.

    Attributes:
        coarse: Texture: large grains instead of small ones.
        upright: Texture: stripes along the rows' axis instead of the columns'.
        islands: Texture: bright islands on dark ground instead of dark holes in bright ground.
        layers: Texture: a number; how much of the third part varies from slice to slice instead of within a slice.
        lobes: Shape: deep lobes instead of shallow ones.
        long: Shape: twice as long as wide within the slices instead of round.
        spicules: Shape: thin rays instead of a plain border.
        flat: Shape: a number; how much shorter it is across the slices.
        rim: Layout: the border is bright and the middle dark instead of the opposite.
        shell: Layout: bright half-way between border and middle instead of dark there.
        poles: Layout: the first and last slices are bright instead of the middle ones.
        cross: Layout: a number; how much brighter it is along the rows' axis than along the columns'.
    """

    coarse: bool
    upright: bool
    islands: bool
    layers: float
    lobes: bool
    long: bool
    spicules: bool
    flat: float
    rim: bool
    shell: bool
    poles: bool
    cross: float


def draw_aspects(rng: np.random.Generator) -> Aspects:
    """Aspects independent of each other."""

    def coin() -> bool:
        return bool(rng.integers(2))

    return Aspects(
        coarse=coin(),
        upright=coin(),
        islands=coin(),
        layers=float(rng.normal()),
        lobes=coin(),
        long=coin(),
        spicules=coin(),
        flat=float(rng.normal()),
        rim=coin(),
        shell=coin(),
        poles=coin(),
        cross=float(rng.normal()),
    )


@dataclass(frozen=True)
class Look:
    """How strongly a kind of phantom shows the aspects.

    Attributes:
        texture: Share of the texture in the pattern inside.
        layout: Share of the layout.
        grain_mm: Wavelength of middling grains.
        shares: Of the texture's variance: grains, stripes, layers.
    """

    texture: float
    layout: float
    grain_mm: float
    shares: tuple[float, float, float] = (0.35, 0.3, 0.35)


@dataclass(frozen=True)
class Lesion:
    """A lesion, wherever and on whatever grid it is painted; the origin is its middle."""

    surface: Surface
    aspects: Aspects
    look: Look
    waves: Waves

    def pattern(self, axes: Axes) -> tuple[Array, Array]:
        """The brightness inside, and the share of each voxel that lies inside, both `(D, H, W)`.

        The brightness has mean 0 and variance 1, and is 0 outside.
        """
        depth, radius = self.surface.depth(axes)
        edge = min(float(np.diff(axis).min()) for axis in axes)
        inside = np.clip(0.5 + depth * radius / edge, 0, 1)
        values = self.look.texture * _standardised(self._texture(axes), inside)
        if self.look.layout:
            values = values + self.look.layout * _standardised(self._layout(axes, depth, inside), inside)
        return _standardised(values, inside) * (inside > 0), inside

    def _texture(self, axes: Axes) -> Array:
        side = 1 if self.aspects.islands else -1
        return np.asarray(side * np.exp(side * _SKEW * self.waves.on(axes)))

    def _layout(self, axes: Axes, depth: Array, inside: Array) -> Array:
        deep, high, wide = np.meshgrid(*axes, indexing="ij")
        squares = deep**2 + high**2 + wide**2 + 1e-6
        parts = (
            (-1) ** self.aspects.rim * depth,
            (-1) ** self.aspects.shell * np.cos(2 * np.pi * depth),
            -((-1) ** self.aspects.poles) * deep**2 / squares,
            self.aspects.cross * (high**2 - wide**2) / squares,
        )
        scales = (1.0, 1.0, 1.0, abs(self.aspects.cross))
        return np.asarray(sum(s * _standardised(part, inside) for s, part in zip(scales, parts, strict=True)))


def draw_lesion(rng: np.random.Generator, aspects: Aspects, look: Look, radius_mm: float) -> Lesion:
    """A lesion of the volume of a sphere of `radius_mm`."""
    lobes = Bumps(7, 0.8, 9.0) if aspects.lobes else Bumps(7, 0.1, 9.0)
    spicules = (Bumps(10, 0.75, 70.0),) if aspects.spicules else ()
    stretch = (2.0 ** (-0.35 * aspects.flat), 2.0 if aspects.long else 1.0, 1.0)
    surface = draw_surface(rng, radius_mm, (lobes, *spicules), stretch)
    return Lesion(surface, aspects, look, _texture_waves(rng, aspects, look))


def _texture_waves(rng: np.random.Generator, aspects: Aspects, look: Look) -> Waves:
    """Grains, stripes and layers."""
    grain_mm, (grains, stripes, layers) = look.grain_mm, look.shares
    grain = grain_mm * (1.7 if aspects.coarse else 1 / 1.4)
    along = about(rng, (0, 0, 1) if aspects.upright else (0, 1, 0), _WAVES, 0.2)
    layered = float(ndtr(aspects.layers))
    across, within = about(rng, (1, 0, 0), _WAVES, 0.2), isotropic(rng, _WAVES) * (0.1, 1, 1)
    within /= np.linalg.norm(within, axis=1, keepdims=True)
    return (
        draw_waves(rng, isotropic(rng, _WAVES), grain, 0.4, grains)
        + draw_waves(rng, along, grain_mm, 0.6, stripes)
        + draw_waves(rng, across, 1.3 * grain_mm, 0.6, layers * layered)
        + draw_waves(rng, within, 1.3 * grain_mm, 0.6, layers * (1 - layered))
    )


def _standardised(values: Array, weights: Array) -> Array:
    """Values of mean 0 and variance 1 where the weights are."""
    total = max(float(weights.sum()), 1e-6)
    centred = values - (weights * values).sum() / total
    return np.asarray(centred / max(np.sqrt((weights * centred**2).sum() / total), 1e-6))
