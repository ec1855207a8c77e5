"""Surfaces of lesions: star-shaped, with bumps about directions, stretched; of a given volume whatever their form."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
from scipy.spatial import KDTree
from scipy.spatial.transform import Rotation

from simulation.phantoms.waves import Array, Axes

_SURFACE_POINTS = 3000


@dataclass(frozen=True)
class Bumps:
    """Equal bumps, spread evenly over a sphere.

    Attributes:
        count: How many.
        height: Of each, as a share of the radius.
        sharpness: Concentration of each about its direction; its angular half-width is about sqrt(2 / sharpness).
    """

    count: int
    height: float
    sharpness: float


@dataclass(frozen=True)
class Surface:
    """A closed surface about the origin.

    Attributes:
        radius_mm: Of the sphere of the same volume.
        directions: `(J, 3)` of all bumps.
        heights: `(J,)` shares of the radius.
        sharpness: `(J,)` of each bump.
        frame: `(3, 3)` a rotation and stretch of determinant 1, from space to where the bumps are.
    """

    radius_mm: float
    directions: Array
    heights: Array
    sharpness: Array
    frame: Array

    def depth(self, axes: Axes) -> tuple[Array, Array]:
        """How deep each voxel lies, as a share of the radius in its direction, and that radius in mm, both `(D, H, W)`.

        It is 1 at the centre, 0 at the surface and negative outside.
        """
        points = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 3)
        turned = points @ self.frame.T
        lengths = np.maximum(np.linalg.norm(turned, axis=1), 1e-6)
        shares = 1 - lengths / self._radii(turned / lengths[:, None])
        radii = np.linalg.norm(points, axis=1) / np.maximum(1 - shares, 1e-6)
        shape = [len(axis) for axis in axes]
        return shares.reshape(shape), radii.reshape(shape)

    def distance_mm(self, axes: Axes) -> Array:
        """Distance `(D, H, W)` to the surface, positive inside."""
        grid = sphere(_SURFACE_POINTS)
        points = (grid * self._radii(grid)[:, None]) @ np.linalg.inv(self.frame).T
        voxels = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1)
        distance, _ = KDTree(points).query(voxels)
        return np.asarray(np.where(self.depth(axes)[0] > 0, distance, -distance))

    def reach_mm(self) -> Array:
        """How far it extends from the origin along (D, H, W), `(3,)`."""
        grid = sphere(_SURFACE_POINTS)
        points = (grid * self._radii(grid)[:, None]) @ np.linalg.inv(self.frame).T
        return np.asarray(np.abs(points).max(axis=0))

    def _radii(self, directions: Array) -> Array:
        grid = sphere(_SURFACE_POINTS)
        unit = self.radius_mm / np.cbrt((self._relative(grid) ** 3).mean())
        return np.asarray(unit * self._relative(directions))

    def _relative(self, directions: Array) -> Array:
        return np.asarray(1 + np.exp(self.sharpness * (directions @ self.directions.T - 1)) @ self.heights)


def draw_surface(
    rng: np.random.Generator, radius_mm: float, bumps: tuple[Bumps, ...], stretch: tuple[float, float, float]
) -> Surface:
    """A surface with bumps in random places, the longest axis of its stretch turned at random within the slices.

    Args:
        rng: Where chance comes from.
        radius_mm: Of the sphere of the same volume.
        bumps: One pattern or several.
        stretch: Along (D, H, W) before the turn; only its ratios count.
    """
    directions = [Rotation.random(random_state=rng).apply(sphere(one.count)) for one in bumps]
    factors = np.asarray(stretch) / np.cbrt(np.prod(stretch))
    turn = Rotation.from_rotvec([rng.uniform(0, np.pi), 0, 0]).as_matrix()  # the first axis is D
    return Surface(
        radius_mm,
        np.concatenate(directions),
        np.concatenate([np.full(one.count, one.height) for one in bumps]),
        np.concatenate([np.full(one.count, one.sharpness) for one in bumps]),
        np.diag(1 / factors) @ turn,
    )


@cache
def sphere(count: int) -> Array:
    """Directions `(count, 3)` spread evenly over the sphere: a Fibonacci lattice."""
    steps = np.arange(count) + 0.5
    height, angle = 1 - 2 * steps / count, np.pi * (1 + np.sqrt(5)) * steps
    across = np.sqrt(1 - height**2)
    return np.column_stack([height, across * np.cos(angle), across * np.sin(angle)])
