"""Study settings: what the coordinating center asks of every site, as Flower's flat run config.

`[tool.flwr.app.config]` in pyproject.toml lists every key, because Flower overrides only keys that are there.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from pydantic import ConfigDict, Field

from shared_models.grids import FieldOfView, TileNetwork
from shared_models.setting_types import (
    Colluders,
    Edges,
    Features,
    Folds,
    Fraction,
    Grids,
    LeaveOut,
    Name,
    OptionalName,
    Overwrite,
    PatientsBound,
    Positive,
    Privacy,
    Repeats,
    Report,
    RequireSites,
    SecureAggregation,
    Strategy,
    Subgroups,
    TestFraction,
    Threshold,
    Tracking,
    WarmupRounds,
    parse_edges,
)
from shared_models.settings import Settings, parse_settings


class StudySettings(Settings):
    """What every site is asked to do in one study. Names in Flower's run config use `-` for `_`."""

    model_config = ConfigDict(str_max_length=200_000)  # thousands of features

    # What is learned
    study: Name = Field("study", description="name of the study: of its folder of results, and of what sites approve")
    task: str = Field("recurrence_clinical", description="the task: a file of shared_models/tasks")
    features: Features = Field(
        "", description="the tables and their features: `modality: name, name:log, name{a|b}`; empty: the task's own"
    )
    modalities: str = Field("", description="comma-separated modalities to use; empty: the task's default")
    targets: str = Field("", description="comma-separated targets to learn; empty: all of the task's")
    grids: Grids = Field(
        "", description="`modality: 16x32x32 at 4x2x2 mm`: shape and spacing of an image; empty: the task's own"
    )
    field_of_view: FieldOfView = Field(
        "tumour",
        description="what a volume shows of an exam: the grid about the tumour's mask or box, or the breast with the "
        "finding, or the whole exam, these two resized to the grid; a site that knows no place or side gives the whole",
    )
    time_edges_days: Edges = Field("", description="interval ends of a time-to-event target, comma-separated")
    outcome: Literal["auto", "time-to-event", "binary"] = Field(
        "auto",
        description="how a time to event is learned; binary: as an event by `horizon-days`, or a site's own label; "
        "who was censored earlier has none. auto: time-to-event, but binary in a simulation of sites with labels alone",
    )
    horizon_days: Positive = Field(
        1826.25,
        description="horizon of a time-to-event target: of its risk and metrics; at most the last interval's end",
    )

    # What the network starts from
    initial_weights: Literal["seeded", "file"] = Field(
        "seeded", description="file: weights of `initial-weights-file`; what does not fit the network is seeded"
    )
    initial_weights_file: str = Field(
        "", description="a file of weights at the center, .safetensors, .pt or .pth; hospitals approve only its hash"
    )
    initial_weights_format: Literal["study", "medicalnet", "monai", "torchvision", "timm"] = Field(
        "study", description="whose names the file's arrays have: a study's checkpoint, or a published ResNet's"
    )
    initial_weights_sha256: str = Field(
        "",
        pattern="^([0-9a-f]{64})?$",
        description="SHA-256 of the arrays that fit, as the network has them; a run without it says what it is",
    )
    initial_weights_share: float = Field(
        0.9,
        gt=0.0,
        le=1.0,
        description="share of the network that a file must fill; of a published ResNet's backbone, and of its file",
    )
    backbone: Literal["task", "resnet10", "resnet14", "resnet18", "resnet34", "resnet50"] = Field(
        "task",
        description="encoder of images: the task's own, or a ResNet of a published architecture, for weights of others",
    )
    trained: str = Field(
        "all",
        min_length=1,
        description="what is trained: all; heads, all but the backbones of images; or comma-separated patterns of "
        "weights' names, as `heads.*, trunk.*`. The rest stays as it starts, and travels once",
    )
    tile_network: TileNetwork = Field(
        "file",
        description="network that makes features of tiles: ResNet-50 with weights that each site has in a file, or, "
        "where there are none, a small one of its kind with random weights, the same at every site",
    )
    tile_weights_sha256: str = Field(
        "",
        pattern="^([0-9a-f]{64})?$",
        description="SHA-256 of that file, the same at every site; empty: each site's own, unchecked",
    )

    # Who takes part
    sites: str = Field(
        "", description="comma-separated names of the sites to wait for; empty: every site that is connected"
    )
    evaluation_only_sites: str = Field("", description="comma-separated names of sites that never train")
    min_sites: int = Field(2, ge=1, description="minimum number of usable updates for a round to count")

    require_sites: RequireSites = Field(
        "",
        description="sites that must take part, or the study does not begin: all of those in `sites`, or a number; "
        "empty: `min-sites` that train, and named sites that are missing are listed in the results and set the exit "
        "code",
    )

    canary: bool = Field(
        False,
        description="one real round to see whether the study would run: no other question is answered, and nothing but "
        "a verdict for each site is stored; `python -m server run --canary` writes such settings",
    )

    # What is validated, where nothing is trained
    validates: str = Field(
        "",
        pattern=r"^([A-Za-z0-9][A-Za-z0-9_.-]{0,63}(/[A-Za-z0-9_.-]{1,64})?)?$",
        description="name of a finished study whose network the sites score and none trains; `python -m server "
        "validate` writes such settings",
    )
    validates_sha256: str = Field(
        "",
        pattern="^([0-9a-f]{64})?$",
        description="SHA-256 of that network with its standardisation and thresholds: sites score no other",
    )
    compares: str = Field(
        "",
        pattern=r"^([A-Za-z0-9][A-Za-z0-9_.-]{0,63}, [A-Za-z0-9][A-Za-z0-9_.-]{0,63})?$",
        description="names of two finished studies whose networks the sites score on the same test patients and none "
        "trains; `python -m server compare` writes such settings",
    )
    compares_sha256: str = Field(
        "",
        pattern="^([0-9a-f]{64})?$",
        description="SHA-256 of both networks with their standardisation and thresholds: sites score no others",
    )
    compares_settings: str = Field(
        "", description="settings of the second of these studies that differ from the first's, as JSON"
    )

    # How it is learned
    rounds: int = Field(20, ge=1, le=10_000, description="number of training rounds")
    strategy: Strategy = Field(
        "fedavg", description="aggregation rule, by which the center makes one network of the sites' updates"
    )
    clip_updates: float = Field(
        3.0, ge=0.0, description="maximum norm of a site's update, as a multiple of the round's median norm; 0: none"
    )
    hostile_sites: int = Field(
        1, ge=0, description="sites n that trimmed-mean and krum withstand, among 2n + 1 and 2n + 3 that answer"
    )
    proximal_mu: float = Field(
        0.01, ge=0.0, description="FedProx's proximal term: weight of the squared distance to the global model"
    )
    server_learning_rate: Positive = Field(0.01, description="learning rate of FedAdam and FedYogi at the center")
    server_momentum: Fraction = Field(0.9, description="momentum of FedAvgM at the center")
    server_tau: Positive = Field(0.001, description="tau (degree of adaptivity) of FedAdam and FedYogi")
    local_epochs: int = Field(1, ge=1, le=1_000, description="passes over a site's training patients per round")
    batch_size: int = Field(16, ge=1, description="patients per optimizer step")
    optimizer: Literal["adamw", "sgd"] = Field("adamw", description="optimizer at the sites")
    optimizer_state: Literal["local", "fresh"] = Field(
        "local",
        description="local: each site continues with its own optimizer's moments; fresh: none are left of a round",
    )
    learning_rate: Positive = Field(0.001, description="learning rate at the sites")
    learning_rate_schedule: Literal["constant", "cosine", "step"] = Field(
        "constant", description="cosine: to 0 over the rounds; step: a tenth after half, a hundredth after 3/4 of them"
    )
    wide: bool = Field(True, description="a linear path from each table to the outcomes, beside the network")
    wide_learning_rate_factor: Positive = Field(
        1.0,
        description="with adamw and without privacy: learning rate of the linear paths over that of the network, "
        "times the root of a table's columns",
    )
    clip_gradients: float = Field(
        0.0, ge=0.0, description="maximum norm of a step's gradient in training without privacy; 0: none"
    )
    patience: int = Field(
        0, ge=0, description="scored rounds without a better one after which the study ends early; 0: never"
    )
    warmup_rounds: WarmupRounds = Field(0, ge=0, description="first rounds, while the learning rate rises to its value")
    weight_decay: float = Field(
        0.01, ge=0.0, description="weight decay at the sites, of all weights but biases and scales of normalisation"
    )
    fusion: Literal["task", "concatenation", "late"] = Field(
        "task",
        description="fusion of modalities: the task's own, concatenation, or late (logits of each modality are added)",
    )
    class_weights: Literal["none", "balanced"] = Field(
        "none", description="balanced: inverse class frequencies, pooled over all sites, as weights of the loss"
    )
    oversampling: Literal["none", "smotenc"] = Field(
        "none",
        description="smotenc: synthetic patients of the minority class in each site's training split; tables only",
    )
    normalisation: Literal["shared", "local"] = Field(
        "shared", description="local: each training site has its own scale and shift in normalisation layers (FedBN)"
    )
    harmonisation: Literal["none", "combat"] = Field(
        "none", description="combat: batch-effect correction of tables before round 1 (ComBat)"
    )
    harmonised: str = Field("radiomics", description="comma-separated tables to which `harmonisation` applies")
    hidden_units: int = Field(0, ge=0, description="width of a table's hidden layer; 0: linear")
    augmentation: Literal["none", "standard"] = Field(
        "none",
        description="standard: images are mirrored, turned, zoomed and made brighter or darker at random in training; "
        "tiles turned, and their colours changed",
    )
    modality_dropout: Fraction = Field(
        0.2, description="probability of hiding an available modality of a patient during training"
    )

    # Each site's own network
    personal: Literal["off", "head", "fine-tune", "ditto"] = Field(
        "off",
        description="network of its own that each training site makes of the study's at the end and retains, tested "
        "beside it: head (all but the encoders is trained), fine-tune (all of it), ditto (all of it, pulled to the "
        "study's)",
    )
    personal_epochs: int = Field(
        5,
        ge=1,
        le=1_000,
        description="with `personal`: passes, of which the site's validation patients choose the best",
    )
    personal_pull: Positive = Field(
        0.1, description="Ditto's lambda: weight of half the squared distance to the study's network"
    )

    # Privacy
    privacy: Privacy = Field("none", description="patient: patient-level differential privacy (DP-SGD)")
    clip_norm: Positive = Field(1.0, description="clipping norm of the per-patient gradients in private training")
    noise_multiplier: Positive = Field(1.0, description="noise standard deviation divided by the clipping norm")
    target_epsilon: float = Field(
        0.0,
        ge=0.0,
        description="instead of `noise-multiplier`: each site calibrates its noise to this epsilon; 0: not used",
    )

    patient_gradients: Literal["auto", "hooks", "functorch", "ghost"] = Field(
        "auto", description="method for per-sample gradients: auto is the fastest, the others are Opacus's"
    )
    wire: Literal["float32", "bfloat16"] = Field(
        "bfloat16",
        description="format in which weights are sent: bfloat16 halves the bytes; sites send rounded changes of "
        "weights, and the center keeps the rounding errors and adds them up. With secure aggregation only weights to "
        "the sites are rounded, since it sends whole numbers; SCAFFOLD's variates are float32",
    )
    secure_aggregation: SecureAggregation = Field(
        "auto",
        description="on: the center sees weights and statistics only as sums over three sites or more; "
        "auto: on where three sites or more train and nothing needs a single site's numbers",
    )
    colluders: Colluders = Field(
        0,
        ge=0,
        description="with secure aggregation: sites that may collude with the center; 0: a third of "
        "the named `sites` that train, or of `min-sites` where none are named, rounded up, less one, and at least one",
    )
    survivor_sets: int = Field(
        0,
        ge=0,
        description="with secure aggregation: different sets of sites over which the sums of one study are opened, as "
        "sites drop out and return; 0: as many as there are sites",
    )
    update_bound: Positive = Field(
        8.0, description="with secure aggregation: largest change of a weight in a round; what is larger is cut to it"
    )
    patients_bound: PatientsBound = Field(
        1_000_000, ge=1, description="with secure aggregation: most training patients of one site that count"
    )

    # Splits and seeds
    seed: int = Field(0, ge=0, description="seed of weights, batches and dropout")
    split: OptionalName = Field(
        "",
        description="name of the split by patient, for other test patients than studies have otherwise; empty: the "
        "split that all studies with the same `split-seed` and fractions have at a site",
    )
    split_seed: int = Field(0, ge=0, description="seed of the split by patient, where a site has none of its own")
    folds: Folds = Field(
        0,
        ge=0,
        le=100,
        description="parts of each site's patients, each of which is tested by a network trained without it "
        "(cross-validation); 0: one split into train, validation and test",
    )
    repeats: Repeats = Field(1, ge=1, le=100, description="with `folds`: how often, each time with other folds")
    leave_out: LeaveOut = Field(
        "none", description="each: every site that trains is left out of training in turn, and tested as a new hospital"
    )
    validation_fraction: Fraction = Field(
        0.15, description="fraction of patients for validation: they select round and threshold"
    )
    test_fraction: TestFraction = Field(
        0.15, description="fraction of patients for testing: scored once, at the end; with `folds` one of them instead"
    )
    threshold: Threshold = Field(
        "f1",
        description="rule for the decision threshold, on pooled validation scores: `f1` or `youden` maximise, "
        "`sensitivity=0.9` or `specificity=0.9` reach at least that",
    )
    subgroups: Subgroups = Field(
        "",
        description="subgroups of test patients that are judged by themselves, too: "
        "`age_years: <50 | 50-70 | >70; scanner{ge|siemens}; er`, columns that hospitals map as they do features",
    )
    importance: Literal["off", "modalities", "features", "shap"] = Field(
        "modalities",
        description="what the scores of test patients lose with each modality shuffled between a site's patients, or "
        "absent; features: with each feature of a table, too, at five scorings of the test patients each; shap: also "
        "each feature's mean absolute Shapley value, of networks of tables, with the extra `explain` at the sites",
    )

    # When things go wrong
    join_timeout_s: Positive = Field(
        600.0, description="time to wait for the sites before round 1, and before the last round is scored and tested"
    )
    round_timeout_s: Positive = Field(3600.0, description="time a site may take for one message")
    round_attempts: int = Field(3, ge=1, description="attempts at a round with too few usable updates")
    auto_resume: int = Field(
        3,
        ge=0,
        le=100,
        description="how often in a row, without a round in between, a run whose process at the center died is "
        "resumed automatically; 0: never",
    )
    resume: bool = Field(False, description="continue from the study's last checkpoint")
    overwrite: Overwrite = Field(
        False,
        description="start again where the folder of the study has results or checkpoints, which are deleted once a "
        "round of the new run counts",
    )
    results_dir: str = Field("runs", description="folder of checkpoints and results at the center")
    report: Report = Field(
        "",
        description="a `[report]` table: the authors' answers for the report, docs/report.md; no part of an approval",
    )
    tracking: Tracking = Field(
        "",
        description="programs that the center writes the metrics of each round, the settings and the results for, in "
        "files, comma-separated: tensorboard, mlflow; each needs the extra of its name; empty: none",
    )

    @property
    def edges(self) -> tuple[float, ...]:
        """`time_edges_days` as numbers."""
        return parse_edges(self.time_edges_days)

    @property
    def trackers(self) -> tuple[str, ...]:
        """`tracking` as names."""
        return _names(self.tracking)

    @property
    def expected_sites(self) -> tuple[str, ...]:
        """`sites` as names."""
        return _names(self.sites)

    @property
    def required_sites(self) -> int:
        """`require_sites` as a number; 0 where none is asked for."""
        return len(self.expected_sites) if self.require_sites == "all" else int(self.require_sites or 0)

    @property
    def chosen_modalities(self) -> tuple[str, ...]:
        """`modalities` as names."""
        return _names(self.modalities)

    @property
    def chosen_targets(self) -> tuple[str, ...]:
        """`targets` as names."""
        return _names(self.targets)

    @property
    def harmonised_tables(self) -> tuple[str, ...]:
        """`harmonised` as names; none without harmonisation."""
        return _names(self.harmonised) if self.harmonisation == "combat" else ()

    @property
    def never_train(self) -> tuple[str, ...]:
        """`evaluation_only_sites` as names."""
        return _names(self.evaluation_only_sites)

    @property
    def trains_nothing(self) -> bool:
        """Whether finished networks are only scored: validated or compared."""
        return bool(self.validates or self.compares)

    @property
    def mu(self) -> float:
        """Weight of the proximal term: `proximal_mu` under FedProx, else 0."""
        return self.proximal_mu if self.strategy == "fedprox" else 0.0

    def to_flat(self) -> dict[str, bool | int | float | str]:
        """The run config as Flower carries it."""
        return {name.replace("_", "-"): value for name, value in self.model_dump().items()}


def parse_study_settings(
    values: Mapping[str, Any], source: str = "run config", strategies: Sequence[str] = ()
) -> StudySettings:
    """Validates a run config; what it does not set is as the task is trained by default, with the task's optimizer.

    Args:
        values: Its keys and values.
        source: Where they are from, for messages.
        strategies: The aggregation rules there are; empty where only the center knows them.

    Raises:
        SettingsError: With every problem on a line of its own.
    """
    config = parse_settings(StudySettings, values, source, {"strategies": strategies})
    given = {key.replace("-", "_") for key in values}
    if config.privacy == "patient" or given >= set(StudySettings.model_fields):
        return config
    training = _training_of(config.task)
    if "optimizer" in given and config.optimizer != training.get("optimizer", config.optimizer):
        return config  # the task's rates and decay are of its own optimizer
    defaults = {key: value for key, value in training.items() if key not in given}
    return config.model_copy(update=defaults)


def _training_of(task: str) -> Mapping[str, Any]:
    """The settings that a task is trained with by default; none where there is no such task, which is said later."""
    module = f"shared_models.tasks.{task}"
    if not task.isidentifier() or importlib.util.find_spec(module) is None:
        return {}
    training: Mapping[str, Any] = importlib.import_module(module).TASK.training
    return training


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())
