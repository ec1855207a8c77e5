"""Page of saliency and attention maps, which stays at the hospital: planes of each image with the tumour's outline."""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from pathlib import Path

from client.imaging.planes import planes
from client.inference.saliency import SaliencyMap
from client.private_files import write_private
from shared_models.task import Volume
from shared_models.trained_model import RESEARCH_ONLY, TrainedModel

POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
STYLE = "body{font:14px sans-serif;margin:2em;max-width:70em}img{margin-right:.5em;min-width:12em}h2{margin-top:1.5em}"
MEANING = (
    "Blue: voxels of which a small change moves the output most (SmoothGrad); under attention, those that the network "
    "weighs most, whichever outcome it predicts, with the least and the largest weight. Orange: the tumour's outline. "
    "A map shows what the network is sensitive to, which is not where the disease is. The number is the mean "
    "sensitivity or attention inside the mask over that outside."
)


def write_page(maps: Sequence[SaliencyMap], model: TrainedModel, path: Path) -> None:
    """Writes one HTML file that loads nothing, readable for its owner only.

    Raises:
        SiteError: If it cannot be written.
    """
    write_private(path, page_of(maps, model))


def page_of(maps: Sequence[SaliencyMap], model: TrainedModel) -> str:
    """The page's text."""
    title = f"What moves the network of {model.config.study}, round {model.round}"
    parts = [
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{html.escape(title)}</title>',
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}"><style>{STYLE}</style></head><body>',
        f"<h1>{html.escape(title)}</h1><p>{html.escape(MEANING)} {html.escape(RESEARCH_ONLY)}. "
        "This page shows patients: it stays at the hospital.</p>",
    ]
    for one in maps:
        kind = model.task.modalities[one.modality]
        assert isinstance(kind, Volume)
        inside = " (no mask)" if math.isnan(one.ratio) else f" ({one.ratio:.2f} times as much inside the mask)"
        of = one.target.replace("_", " ") or f"attention, {one.heat.min():.3f} to {one.heat.max():.3f}"
        heading = f"{one.patient}: {one.modality}, {of}{'' if kind.tiles else inside}"
        shown = planes(one.image, kind, one.heat)
        images = (f'<img src="{plane.source}" alt="{plane.plane}" title="{plane.plane}">' for plane in shown)
        parts.append(f"<h2>{html.escape(heading)}</h2><p>{''.join(images)}</p>")
    return "\n".join([*parts, "</body></html>\n"])
