"""Mammogram features: size, shape, margin and density of a finding, and breast density.

Size and shape are of the mask's largest piece with its holes filled, in mm. Shape and margin as words (oval,
spiculated) are the radiologist's: no published rule from outlines to words holds across hospitals. They come from the
report through `codes`, as in site_configs/cbis_ddsm.yaml; what is measured here are numbers.

* `size_mm`, `size_minor_mm`: the greatest and the least caliper (Feret) diameter;
* `circularity`: 4 pi area / perimeter², 1 for a circle; `solidity`: area / area of the convex hull; `eccentricity` of
  the ellipse of the same moments, 0 for a circle;
* `radial_deviation`: standard deviation of the distance from centroid to border, by the greatest (Kilday 1993,
  10.1109/42.251116);
* `spiculation`: how fast that distance changes with the angle, root mean square, by its mean; the slowest waves, a
  shift, an oval and a triangle, are left out;
* `acutance`: how sharp the border is (Rangayyan 1997, 10.1109/42.650876): 0 without an edge, 1 for a step. The paper
  divides by the film's range; here by the range about the border, so that a scanner's gain and offset cancel;
* `density_percent`: dense area by breast area, and `density`, its quarter, as BI-RADS (4th edition, 2003) has it. The
  thresholds are Otsu's (1979, 10.1109/TSMC.1979.4310076), as reviewed by Oliver 2010 (10.1016/j.media.2009.12.005).
  It is an area, not a volume; it needs the whole breast in the image; the pectoral muscle of an MLO view counts as
  dense. It has been held to drawn phantoms only.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from client.imaging.exams import Exam
from client.imaging.files import bad_file

VERSION = 1  # raise it when the same exam gives other values

DENSITY = ("fatty", "scattered", "heterogeneous", "extremely_dense")  # below 25, 50, 75 and 100 %
SHAPE = ("size_mm", "size_minor_mm", "circularity", "solidity", "eccentricity", "radial_deviation", "spiculation")
FEATURES: Mapping[str, tuple[str, ...]] = {
    **dict.fromkeys((*SHAPE, "acutance", "density_percent"), ()),
    "density": DENSITY,
}

MIN_PIXELS = 12  # of a finding that has a shape
MAX_PIXELS = 1_000_000  # in which a finding is measured: 70 mm by 70 mm in pixels of .07 mm
ANGLES = 720
SLOWEST, FASTEST = 4, 60  # waves round the finding that are lobules or spicules
EDGE_MM = np.arange(0.2, 2.01, 0.2)  # how far in and out of the border the edge is looked at
EDGE_POINTS = 4000
COARSE_MM = 0.4  # pixels in which density is measured
SKIN_MM = 2.0  # the breast's rim, which is never dense; it is half air
# Otsu's share of the variance between the two classes is .64 for a bell, .75 for values spread evenly, 1 for two peaks.
MIN_SEPARATION = 0.7

Array = NDArray[np.float64]


def measure(exam: Exam) -> dict[str, float | str]:
    """The values of `FEATURES`; NaN where there is no mask, or nothing to see.

    Args:
        exam: One image `(1, H, W)`.

    Raises:
        SiteError: If it is another.
    """
    import SimpleITK as sitk

    image = exam.phases[0]
    if len(exam.phases) > 1 or image.GetSize()[2] > 1:
        found = f"{len(exam.phases)} images of {image.GetSize()[2]} slices"
        raise bad_file(exam.name, "an exam is no mammogram", found, "one image of one slice")
    values: dict[str, float | str] = dict.fromkeys((*SHAPE, "acutance"), math.nan)
    finding = None if exam.mask is None else _largest(sitk.GetArrayViewFromImage(exam.mask)[0] > 0)
    if finding is not None:
        pixels, finding, spacing = _about(
            sitk.GetArrayViewFromImage(image)[0], finding, np.array(image.GetSpacing()[1::-1])
        )
        values |= _size_and_shape(finding, spacing) | {"acutance": _acutance(pixels, finding, spacing)}
    percent = _density_percent(image[:, :, 0])
    density = math.nan if math.isnan(percent) else DENSITY[min(int(percent // 25), 3)]
    return values | {"density_percent": percent, "density": density}


def _largest(mask: NDArray[np.bool_]) -> NDArray[np.bool_] | None:
    """The largest piece of a mask `(H, W)`, its holes filled; None if it is too small for a shape."""
    from scipy.ndimage import label

    pieces, count = label(mask, np.ones((3, 3)))
    if not count:
        return None
    largest = pieces == 1 + np.bincount(pieces.ravel())[1:].argmax()
    around, count = label(~largest)
    outside = np.zeros(count + 1, dtype=bool)
    outside[np.concatenate([around[0], around[-1], around[:, 0], around[:, -1]])] = True
    outside[0] = False  # the piece itself, where it reaches the image's edge
    filled = ~outside[around]
    return filled if filled.sum() >= MIN_PIXELS else None


def _about(
    pixels: NDArray[np.float32], finding: NDArray[np.bool_], spacing: Array
) -> tuple[Array, NDArray[np.bool_], Array]:
    """Both, cropped to the finding and a rim for its edge, and the spacing; beyond the image there is NaN.

    Of a very large one, each second pixel or fewer: the work stays that of `MAX_PIXELS`.
    """
    room = [math.ceil(EDGE_MM[-1] / distance) + 4 for distance in spacing]
    ends = [np.flatnonzero(finding.any(axis=axis)) for axis in (1, 0)]
    lengths = [end[-1] + 1 + 2 * rim - end[0] for end, rim in zip(ends, room, strict=True)]
    every = math.ceil(math.sqrt(math.prod(lengths) / MAX_PIXELS))
    window = tuple(slice(end[0], end[0] + length, every) for end, length in zip(ends, lengths, strict=True))
    rims = [(rim, rim) for rim in room]
    image = np.pad(pixels.astype(float), rims, constant_values=np.nan)
    return image[window], np.pad(finding, rims)[window], spacing * every


def _size_and_shape(finding: NDArray[np.bool_], spacing: Array) -> dict[str, float]:
    """`SHAPE` of a finding `(H, W)` whose rows and columns are `spacing` mm apart."""
    from scipy.spatial import ConvexHull
    from scipy.spatial.distance import pdist

    hull = ConvexHull(_outer_edges(finding) * spacing)
    corners, normals = hull.points[hull.vertices], hull.equations[:, :2]
    area = float(finding.sum() * spacing.prod())
    within = np.argwhere(finding) * spacing
    minor, major = np.linalg.eigvalsh(np.cov(within.T) + np.diag(spacing**2 / 12))
    smooth = _smoothed(finding, spacing)
    radii = _radii(smooth, within.mean(axis=0), spacing)
    return {
        "size_mm": float(pdist(corners).max()),
        "size_minor_mm": float(np.ptp(corners @ normals.T, axis=0).min()),
        "circularity": 4 * math.pi * area / _perimeter_mm(smooth, spacing) ** 2,
        "solidity": area / float(hull.volume),
        "eccentricity": math.sqrt(max(0.0, 1 - minor / major)),
        "radial_deviation": float(radii.std() / radii.max()) if radii.any() else math.nan,
        "spiculation": _spiculation(radii, spacing),
    }


def _outer_edges(finding: NDArray[np.bool_]) -> Array:
    """The middles of the outermost pixels' outer sides, of each row and of each column, `(P, 2)` in pixels."""
    points = []
    for axis, lines in ((1, finding), (0, finding.T)):
        where = np.flatnonzero(lines.any(axis=1))
        first = lines[where].argmax(axis=1) - 0.5
        last = lines.shape[1] - lines[where, ::-1].argmax(axis=1) - 0.5
        points += [np.stack([where, end][:: 1 if axis else -1], axis=1) for end in (first, last)]
    return np.concatenate(points)


def _smoothed(finding: NDArray[np.bool_], spacing: Array) -> Array:
    from scipy.ndimage import gaussian_filter

    return np.asarray(gaussian_filter(finding.astype(float), spacing.max() / spacing))


def _perimeter_mm(smooth: Array, spacing: Array) -> float:
    """The slope of a smoothed finding, summed: the mean length of its contours, whichever way they run."""
    return float(np.hypot(*np.gradient(smooth, *spacing)).sum() * spacing.prod())


def _radii(smooth: Array, centre_mm: Array, spacing: Array) -> Array:
    """Distance in mm from the centre to the outermost border, in `ANGLES` directions."""
    from scipy.ndimage import map_coordinates

    step = spacing.min() / 2
    along = np.arange(0, np.hypot(*(smooth.shape * spacing)), step)
    angles = np.arange(ANGLES) * 2 * math.pi / ANGLES
    rays = np.stack([np.sin(angles), np.cos(angles)])[..., None] * along
    places = (centre_mm[:, None, None] + rays) / spacing[:, None, None]
    seen = map_coordinates(smooth, places, order=1)
    last = along.size - 1 - (seen[:, ::-1] >= 0.5).argmax(axis=1)  # within the finding, or the end of a ray that misses
    rows, missed = np.arange(ANGLES), last == along.size - 1
    inner, outer = seen[rows, last], seen[rows, np.minimum(last + 1, along.size - 1)]
    beyond = (inner - 0.5) / np.maximum(inner - outer, 1e-9)
    return np.asarray(np.where(missed, 0.0, (last + beyond) * step))


def _spiculation(radii: Array, spacing: Array) -> float:
    if not radii.any():  # thinner than the smoothing
        return math.nan
    waves = np.fft.rfft(radii)
    numbers = np.arange(waves.size)
    fastest = min(FASTEST, 2 * math.pi * radii.mean() / (4 * spacing.max()))  # a wave of less than 4 pixels is not seen
    waves[(numbers < SLOWEST) | (numbers > fastest)] = 0
    slope = np.fft.irfft(1j * numbers * waves, radii.size)
    return float(np.sqrt((slope**2).mean()) / radii.mean())


def _acutance(pixels: Array, finding: NDArray[np.bool_], spacing: Array) -> float:
    """Differences across the border along its normals, by distance and by those of a step as high as the range."""
    from scipy.ndimage import distance_transform_edt, gaussian_filter, map_coordinates

    inward = distance_transform_edt(finding, spacing) - distance_transform_edt(~finding, spacing)
    normals = np.stack(np.gradient(gaussian_filter(inward, spacing.max() / spacing), *spacing))
    border = np.argwhere(finding & (inward <= spacing.max()))
    border = border[np.linspace(0, len(border) - 1, min(len(border), EDGE_POINTS)).astype(int)].T
    normals = normals[:, *border]
    normals = normals / np.maximum(np.hypot(*normals), 1e-9)
    start = border * spacing[:, None] - normals * (inward[*border] - spacing.mean() / 2)
    inner, outer = (
        map_coordinates(
            pixels, (start[..., None] + side * normals[..., None] * EDGE_MM) / spacing[:, None, None], order=1
        )
        for side in (1, -1)
    )
    low, high = np.nanpercentile([inner, outer], (5, 95))
    seen = np.isfinite(inner - outer).all(axis=1)
    if not seen.any() or high <= low:
        return math.nan
    slope = ((inner - outer)[seen] / (2 * EDGE_MM)).mean(axis=1) / ((high - low) * (1 / (2 * EDGE_MM)).mean())
    return float(np.sqrt((slope**2).mean()))


def _density_percent(image: Any) -> float:
    """The share of the breast that is dense; NaN where its grey values are of one kind."""
    import SimpleITK as sitk

    coarse = sitk.BinShrink(image, [max(1, round(COARSE_MM / distance)) for distance in image.GetSpacing()])
    classes = sitk.OtsuMultipleThresholds(coarse, numberOfThresholds=2)  # air | fat | dense, of which the first is sure
    breast = _largest(sitk.GetArrayViewFromImage(classes) > 0)
    if breast is None:
        return math.nan
    skin = [max(1, round(SKIN_MM / distance)) for distance in coarse.GetSpacing()]
    inner = sitk.BinaryErode(sitk.GetImageFromArray(breast.astype(np.uint8)), skin)
    values = sitk.GetArrayViewFromImage(coarse)[sitk.GetArrayViewFromImage(inner) > 0].astype(float)
    threshold, separation = _otsu(values) if len(values) else (0.0, 0.0)
    return 100 * float((values > threshold).sum() / breast.sum()) if separation >= MIN_SEPARATION else math.nan


def _otsu(values: Array) -> tuple[float, float]:
    """The threshold between two classes, and the share of the variance that lies between them."""
    counts, edges = np.histogram(values, bins=256)
    below = counts.cumsum() / counts.sum()
    sums = (counts * (edges[:-1] + edges[1:]) / 2).cumsum() / counts.sum()
    with np.errstate(divide="ignore", invalid="ignore"):
        between = np.nan_to_num((sums[-1] * below - sums) ** 2 / (below * (1 - below)), posinf=0.0)
    best = int(between[:-1].argmax())
    variance = values.var()
    return float(edges[best + 1]), float(between[best] / variance) if variance > 0 else 0.0
