"""Picture of where system C looks: attention and region weights of five phantom patients, with the tumour's outline.

    python benchmarks/pictures.py                          rim phantom; writes docs/attention.png
    python benchmarks/pictures.py --kind texture --write texture.png

Trains on the pooled patients of a phantom of `receptors_dce_mri` with the task's defaults, and shows five others, who
were not trained on: the middle slice, the attention of the network there, and how much each region counts. It prints
the AUC of all others beside the mean attention inside the tumour, in its rim and outside, so that no one has to judge
by the eye.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score
from torch import Tensor

from client.cohort.load import Cohort
from shared_models.networks.image_encoder import TumourEncoder
from shared_models.networks.tumour_regions import REGIONS, tumour_regions
from shared_models.study_settings import parse_study_settings
from shared_models.task import load_task
from simulation.baselines.pooled_and_local import Trained, train_centrally
from simulation.phantoms import receptors
from simulation.phantoms.patients import Arrays

SHOWN = 5
PARTS = (*REGIONS, "everywhere")


@dataclass(frozen=True)
class Looks:
    """What a network attended to in N patients.

    Attributes:
        outputs: Target to logits `(N, outputs)`.
        attention: `(N, D, H, W)`, between 0 and 1, on the grid of the image.
        weights: `(N, R)` of `PARTS`, 1 on average.
    """

    outputs: dict[str, Tensor]
    attention: NDArray[np.float32]
    weights: NDArray[np.float32]


def main() -> int:
    """Trains, prints the figures and writes the picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kind", choices=receptors.KINDS, default="rim")
    parser.add_argument("--patients", type=int, default=200, help="to learn from; a sixth of them chooses the round")
    parser.add_argument("--others", type=int, default=100, help="to be scored on")
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--write", type=Path, default=Path("docs/attention.png"), metavar="PNG")
    options = parser.parse_args()
    torch.set_num_threads(1)
    grid = receptors.GRID
    size, spacing = ("x".join(str(value) for value in values) for values in (grid.shape, grid.spacing_mm))
    values = {"task": "receptors_dce_mri", "rounds": options.rounds, "seed": options.seed}
    config = parse_study_settings(values | {"grids": f"dce_mri: {size} at {spacing} mm"})
    learned, others = (
        receptors.draw_arrays(options.kind, patients, 2 * options.seed + odd)
        for odd, patients in enumerate((options.patients, options.others))
    )
    trained = train_centrally(_cohort(learned), load_task(config), config)
    looks = look(trained, others)
    print_figures(others, looks)
    draw(others, looks, options.write)
    return 0


def _cohort(arrays: Arrays) -> Cohort:
    """The patients as one site's, every sixth of them for validation."""
    count = len(arrays.group)
    validates = np.arange(count) % 6 == 0
    return Cohort(
        site="phantom",
        patients=tuple(f"P{number}" for number in range(count)),
        first=np.arange(count + 1),
        sampling_weight=np.ones(count),
        inputs=arrays.inputs,
        present=np.ones((count, 1), dtype=bool),
        truths=arrays.truth,
        parts={
            "train": np.flatnonzero(~validates),
            "validation": np.flatnonzero(validates),
            "test": np.zeros(0, dtype=np.int64),
        },
    )


@torch.no_grad()
def look(trained: Trained, arrays: Arrays) -> Looks:
    """Scores patients one by one, and keeps what attention and gate said."""
    (encoder,) = (layer for layer in trained.model.modules() if isinstance(layer, TumourEncoder))
    outputs_by_layer: dict[str, list[Tensor]] = {"attention": [], "weights": []}
    hooks = [
        layer.register_forward_hook(lambda _layer, _inputs, output, name=name: outputs_by_layer[name].append(output))
        for name, layer in (("attention", encoder.attention), ("weights", encoder.token.gate))
        if layer is not None
    ]
    trained.model.eval()
    device = next(trained.model.parameters()).device
    images = torch.from_numpy(arrays.inputs["dce_mri"]).to(device)
    outputs = [trained.model({"dce_mri": image[None]}, torch.ones(1, 1, device=device)) for image in images]
    for hook in hooks:
        hook.remove()
    attention = torch.nn.functional.interpolate(
        torch.cat(outputs_by_layer["attention"]), images.shape[2:], mode="trilinear"
    )
    return Looks(
        {name: torch.cat([output[name] for output in outputs]).cpu() for name in outputs[0]},
        attention[:, 0].cpu().numpy(),
        torch.cat(outputs_by_layer["weights"])[:, :, 0].cpu().numpy(),
    )


def print_figures(arrays: Arrays, looks: Looks) -> None:
    """AUC of each receptor, mean attention of each region, mean weight of each region."""
    for name in receptors.COINS:
        print(f"{name}: AUC {roc_auc_score(arrays.truth[name], looks.outputs[name][:, 0]):.3f}")
    distance = torch.from_numpy(arrays.inputs["dce_mri"][:, -1:])
    inside = tumour_regions(distance, receptors.GRID.spacing_mm).numpy()
    outside = 1 - inside.sum(axis=1, keepdims=True)
    regions = np.concatenate([inside, outside], axis=1)
    means = (regions * looks.attention[:, None]).sum(axis=(2, 3, 4)) / regions.sum(axis=(2, 3, 4)).clip(min=1e-6)
    for position, name in enumerate((*REGIONS, "further away")):
        print(f"attention, {name}: {means[:, position].mean():.3f} (SD {means[:, position].std():.3f} over patients)")
    for position, name in enumerate(PARTS):
        weights = looks.weights[:, position]
        print(f"weight, {name}: {weights.mean():.2f} (SD {weights.std():.2f} over patients)")


def draw(arrays: Arrays, looks: Looks, path: Path) -> None:
    """Writes the picture: a row for each of the first five patients."""
    import matplotlib as mpl

    mpl.use("agg")
    from matplotlib import pyplot

    figure, rows = pyplot.subplots(SHOWN, 3, figsize=(7.5, 2.3 * SHOWN), layout="constrained", squeeze=False)
    low, high = looks.attention[:SHOWN].min(), looks.attention[:SHOWN].max()
    shown: Any = None
    for patient, (image, attention, bars) in enumerate(rows):
        volume, distance = arrays.inputs["dce_mri"][patient]
        middle = volume.shape[0] // 2
        image.imshow(volume[middle], cmap="gray", vmin=0, vmax=2)
        shown = attention.imshow(looks.attention[patient, middle], cmap="viridis", vmin=low, vmax=high)
        for axes in (image, attention):
            axes.contour(distance[middle], levels=[0.0], colors="tab:orange", linewidths=1.2)
            axes.set_axis_off()
        truth = ", ".join(f"{name.upper()} {arrays.truth[name][patient]:.0f}" for name in receptors.COINS)
        image.set_title(truth, fontsize=8)
        bars.barh(PARTS, looks.weights[patient], color="tab:blue")
        bars.axvline(1.0, color="black", linewidth=0.8)
        bars.set_xlim(0, max(2.0, float(looks.weights[:SHOWN].max()) * 1.05))
        bars.invert_yaxis()
        bars.tick_params(labelsize=8)
    rows[0][1].set_title("attention", fontsize=8)
    rows[0][2].set_title("weight of each region", fontsize=8)
    figure.colorbar(shown, ax=rows[:, 1].tolist(), location="bottom", shrink=0.8)
    figure.savefig(path, dpi=110, metadata={"Software": None})
    pyplot.close(figure)


if __name__ == "__main__":
    sys.exit(main())
