"""Three parts of `privacy_audit.py`: attacked networks, their settings, and the lines of the tables."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import asdict, dataclass, replace
from functools import partial

import numpy as np
import privacy_audit_images as imaging
import privacy_audit_presence as single
import torch
from privacy_attacks import (
    Members,
    Scores,
    confidence,
    empirical_epsilon,
    likelihood_ratios,
    over_targets,
    true_positive_rate,
)
from privacy_audit_runs import (
    POLICY,
    accounted,
    alignments,
    asked_for,
    at_half,
    attacked,
    clinic,
    half,
    losses,
    mislabelled,
    trained,
    with_own_features,
)

from client.training.dp.mechanism import Mechanism
from shared_models.metrics.delong import auc
from shared_models.study_settings import StudySettings

STUDY = StudySettings(
    task="relapse_mammogram",
    fusion="late",
    rounds=20,
    optimizer="sgd",
    learning_rate=0.1,
    weight_decay=0.0,
    modality_dropout=0.0,
    batch_size=32,
)
PRIVATE = {"privacy": "patient", "learning_rate": 0.5, "clip_norm": 0.5}
HIDDEN = {"hidden_units": 64}
MANY_PASSES = {"rounds": 10, "local_epochs": 10}
POOL, SHADOWS, TARGETS = 200, 32, 16
CANARIES, OTHERS = 1000, 200
EVERYONE = {"batch_size": 10_000}
IMAGES, STEPS, ROUND_OF = 3, 60, 16

MEMBERSHIP: dict[str, dict[str, object]] = {
    "20 passes": {**HIDDEN},
    "20 passes, private": {**HIDDEN, **PRIVATE, "target_epsilon": 8.0},
    "100 passes, AdamW": {**HIDDEN, **MANY_PASSES, "optimizer": "adamw", "learning_rate": 0.01},
    "100 passes, private": {**HIDDEN, **PRIVATE, **MANY_PASSES, "target_epsilon": 8.0},
}


@dataclass(frozen=True)
class Row:
    """A line of a table.

    Attributes:
        cells: What is shown, by column.
        accounted: The epsilon that the accountant gave; infinite without privacy.
        empirical: The highest lower bound that an attack gave.
        broken: Whether the mechanism was, so that the attack has to show it.
    """

    cells: dict[str, str]
    accounted: float = np.inf
    empirical: float = 0.0
    broken: bool = False

    def wrong(self) -> str:
        """What is not as it should be; nothing where all is well."""
        what = ", ".join(list(self.cells.values())[:2])
        if self.broken and self.empirical <= self.accounted:
            return f"{what}: broken, and the audit does not show it"
        if not self.broken and self.empirical > self.accounted:
            return f"{what}: epsilon is at least {self.empirical:.2f}, and {self.accounted:.2f} was accounted"
        return ""


def membership(seeds: int, done: Callable[[], object]) -> Iterator[Row]:
    """A line a setting and attack; all shadow and target models train on a random half of the same patients."""
    for name, changes in MEMBERSHIP.items():
        config = STUDY.model_copy(update=changes)
        patients, task = clinic(POOL, config, seed=0)
        losses, members, spent = attacked(patients, task, config, SHADOWS + TARGETS, seed=1, done=done)
        shadow, inside, target = confidence(losses[TARGETS:]), members[TARGETS:], members[:TARGETS]
        attacks = {
            "loss": -losses[:TARGETS],
            "LiRA": likelihood_ratios(confidence(losses[:TARGETS]), shadow, inside),
        }
        for attack, scores in attacks.items():
            bound = empirical_epsilon(scores, target, POLICY.delta)
            rates = {
                f"TPR at FPR {rate:.1%}": str(
                    over_targets(partial(true_positive_rate, false_positive_rate=rate), scores, target)
                )
                for rate in (0.01, 0.001)
            }
            area = str(over_targets(auc, scores, target))
            cells = {"training": name, "attack": attack, "AUC": area, **rates, **_epsilons(spent, [bound])}
            yield Row(cells, spent, bound)


def audit(
    config: StudySettings,
    kind: str,
    seed: int,
    spoil: Callable[[Mechanism], Mechanism] | None = None,
    canaries: int = 0,
) -> tuple[Scores, Scores, Members, Mechanism | None]:
    """Trains once on about half of the canaries and all others.

    Args:
        config: The study.
        kind: Of canary: `own feature` or `mislabelled`.
        seed: Of who is in, and of the weights.
        spoil: Breaks the mechanism.
        canaries: How many; 0 takes the usual number.

    Returns:
        Scores of each canary from all rounds' weights, and from its loss under the last ones; who was in; the
        mechanism that was asked for.
    """
    canaries = canaries or CANARIES
    make = {"own feature": with_own_features, "mislabelled": mislabelled}[kind]
    patients, task = make(*clinic(canaries + OTHERS, config, seed=0), canaries)
    chosen, members = half(patients, canaries, seed)
    asked = asked_for(config, len(chosen))
    models = trained(chosen, task, config, spoil(asked) if spoil and asked else asked, seed)
    suspects = replace(patients, indices=patients.indices[:canaries])
    return alignments(models, suspects, task), -losses(models[-1], suspects, task), members, asked


def no_noise(asked: Mechanism) -> Mechanism:
    """Forgets the noise."""
    return replace(asked, noise_multiplier=1e-9)


def no_clipping(asked: Mechanism) -> Mechanism:
    """Forgets to clip, and adds the noise that was meant for clipped gradients."""
    return replace(asked, clip_norm=1e3 * asked.clip_norm, noise_multiplier=1e-3 * asked.noise_multiplier)


def canaries(seeds: int, done: Callable[[], object]) -> Iterator[Row]:
    """A line a setting and view, over several runs."""
    broken = {"noise forgotten": no_noise, "clipping forgotten": no_clipping}
    linear = STUDY.model_copy(update={**PRIVATE, **EVERYONE})
    plain = {"privacy": "none"}
    settings: list[tuple[str, str, StudySettings]] = [
        *(("own feature", "all in each step", _with(linear, target_epsilon=epsilon)) for epsilon in (1.0, 3.0, 8.0)),
        ("own feature", "64 in a step", _with(linear, target_epsilon=8.0, batch_size=64)),
        ("own feature", "no privacy", _with(linear, batch_size=64, **plain)),
        ("mislabelled", "64 in a step", _with(linear, target_epsilon=8.0, batch_size=64, **HIDDEN)),
        ("mislabelled", "no privacy", _with(linear, batch_size=64, **HIDDEN, **plain)),
        *(("own feature", name, _with(linear, target_epsilon=3.0)) for name in broken),
        ("own feature", "one round of 20 charged", _with(linear, target_epsilon=8.0)),
    ]
    for kind, name, config in settings:
        config = at_half(config, OTHERS + CANARIES // 2)
        runs = [audit(config, kind, seed, broken.get(name)) for seed in range(1, seeds + 1)]
        rounds = 1 if "charged" in name else config.rounds
        claimed = min(accounted(asked, rounds) for *_, asked in runs)
        for view, index in (("every round's weights", 0), ("the last weights' losses", 1)):
            bounds = [empirical_epsilon(run[index], run[2], POLICY.delta) for run in runs]
            areas = [auc(run[index], run[2]) for run in runs]
            wrong = name in broken or "charged" in name
            cells = {"canary": kind, "training": name, "attacker sees": view, "AUC": _span(areas)}
            if index == 0 or not wrong:
                yield Row({**cells, **_epsilons(claimed, bounds)}, claimed, max(bounds), wrong)
        done()


def images(seeds: int, done: Callable[[], object]) -> Iterator[Row]:
    """A line for each kind of update and each image that needs no update."""
    patients, task = imaging.imaging(40, seed=0)
    torch.manual_seed(0)
    model = task.build_model(task, imaging.STUDY)
    likenesses: dict[str, list[imaging.Likeness]] = {}
    for number in range(IMAGES):
        rest = replace(patients, indices=np.delete(patients.indices, number))
        alone = replace(patients, indices=patients.indices[[number]])
        several = replace(patients, indices=np.roll(patients.indices, -number)[:ROUND_OF])
        true, others = imaging.image_of(alone), imaging.image_of(rest)
        mean = others.mean(dim=0, keepdim=True)
        nearest = max((imaging.likeness(other[None], true) for other in others), key=lambda one: one.correlation)
        updates = {
            "one patient, one step": imaging.update(alone, task, model),
            f"a pass over {ROUND_OF} patients": imaging.update(several, task, model),
            "one patient, one private step, noise 1": imaging.update(alone, task, model, noise_multiplier=1.0),
        }
        likenesses.setdefault("none: the mean of other patients", []).append(imaging.likeness(mean, true))
        likenesses.setdefault("none: the nearest of other patients", []).append(nearest)
        for name, sent in updates.items():
            image = imaging.reconstruct(sent, alone, mean, task, model, STEPS, done)
            likenesses.setdefault(name, []).append(imaging.likeness(image, true))
    for name, own in likenesses.items():
        by_measure = {key: [asdict(like)[key] for like in own] for key in asdict(own[0])}
        shown = {"correlation": "correlation", "psnr_db": "PSNR, dB", "ssim": "SSIM"}
        yield Row({"update": name, **{shown[key]: _span(values) for key, values in by_measure.items()}})


def presence(seeds: int, done: Callable[[], object]) -> Iterator[Row]:
    """A line a setting: is one patient there, from the weights that leave after one round?"""
    for name, (changes, runs) in single.SETTINGS.items():
        broken = name == single.BROKEN
        with single.draws_by_place() if broken else nullcontext():
            scores, members, asked = single.presence(changes, runs, seed=1, done=done)
        claimed, bound = accounted(asked, 1), empirical_epsilon(scores, members, POLICY.delta)
        cells = {"training": name, "rounds": str(runs), "AUC": f"{auc(scores, members):.2f}"}
        yield Row({**cells, **_epsilons(claimed, [bound])}, claimed, bound, broken)


PARTS: dict[str, tuple[Callable[[int, Callable[[], object]], Iterator[Row]], int]] = {
    "presence": (presence, sum(runs for _, runs in single.SETTINGS.values())),
    "membership": (membership, len(MEMBERSHIP) * (SHADOWS + TARGETS)),
    "canaries": (canaries, 10),
    "images": (images, 3 * IMAGES * STEPS),
}


def _with(config: StudySettings, **changes: object) -> StudySettings:
    return config.model_copy(update=changes)


def _span(values: list[float]) -> str:
    """The median, and the lowest and highest of several."""
    return f"{values[0]:.2f}" if len(values) == 1 else f"{np.median(values):.2f} ({min(values):.2f}-{max(values):.2f})"


def _epsilons(claimed: float, bounds: list[float]) -> dict[str, str]:
    return {
        "accounted epsilon": f"{claimed:.2f}" if np.isfinite(claimed) else "none",
        "epsilon, at least": _span(bounds),
    }
