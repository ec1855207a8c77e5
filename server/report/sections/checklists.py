"""Section with the reporting checklists TRIPOD+AI and CLAIM: who answers each item, the data, the authors, or no one.

Items are paraphrased, and numbered as published; docs/report.md says what they were compared with. TRIPOD+AI, 27 items
in 52 parts: Collins 2024, 10.1136/bmj-2023-078378. CLAIM, 44 items: the 2024 update, Tejani 2024, 10.1148/ryai.240300.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from server.report.study import Study
from shared_models.pages.elements import Checklist, Facts, Item, Section
from shared_models.report_answers import Answers

Evidence = tuple[str, str, str]
"""Number, text, and what answers it: a section's name, `=` and a field of the `[report]` table, or nothing."""
EXTERNAL = "external"
"""Answered by whichever section tells of hospitals that did not train, if there are any."""

TRIPOD_AI: tuple[Evidence, ...] = (
    ("1", "Title: prediction model, population, outcome", "=title"),
    ("2", "Abstract", ""),
    ("3a", "Healthcare context and rationale", "=rationale"),
    ("3b", "Target population and intended users", "=intended_use"),
    ("3c", "Known inequalities in health", "=inequalities"),
    ("4", "Objectives: development, evaluation or both", "=objectives"),
    ("5a", "Sources of data and why they were chosen", "=sources"),
    ("5b", "Dates of accrual and follow-up", "=dates"),
    ("6a", "Setting of care, number and place of centres", "=population"),
    ("6b", "Eligibility", "=eligibility"),
    ("6c", "Treatments received", "=treatments"),
    ("7", "Preparation of data, differences between groups", "reproducibility"),
    ("8a", "Outcome and time horizon", "=outcome"),
    ("8b", "Outcome assessors, where judgement is needed", "=outcome_assessment"),
    ("8c", "Blinding of outcome assessment", "=outcome_assessment"),
    ("9a", "Choice of predictors", "=predictors"),
    ("9b", "Definition of predictors, when and how measured", "=predictors"),
    ("9c", "Predictor assessors, where judgement is needed", "=predictor_assessment"),
    ("10", "Sample size", "=sample_size"),
    ("11", "Missing data", "patients"),
    ("12a", "Data used for development and evaluation", "flow"),
    ("12b", "Handling of predictors", "reproducibility"),
    ("12c", "Type of model, steps of building, internal validation", "training"),
    ("12d", "Differences between sites: how estimated", "discrimination"),
    ("12e", "Measures and plots of performance", "discrimination"),
    ("12f", "Model updating, such as recalibration", "calibration"),
    ("12g", "How predictions were calculated", "model_card"),
    ("13", "Class imbalance", "training"),
    ("14", "Fairness: approach", "=fairness"),
    ("15", "Output and thresholds", "thresholds"),
    ("16", "Development and evaluation data: differences", "patients"),
    ("17", "Ethical approval", "=ethics"),
    ("18a", "Funding", "=funding"),
    ("18b", "Conflicts of interest", "=conflicts"),
    ("18c", "Protocol", "=protocol"),
    ("18d", "Registration", "=registration"),
    ("18e", "Data sharing", "=data_sharing"),
    ("18f", "Code sharing", "=code_sharing"),
    ("19", "Patient and public involvement", "=involvement"),
    ("20a", "Flow of participants", "flow"),
    ("20b", "Characteristics, overall and by site", "patients"),
    ("20c", "Important predictors: development against evaluation", "patients"),
    ("21", "Participants and events in every analysis", "discrimination"),
    ("22", "The full model, so that others can predict", "reproducibility"),
    ("23a", "Performance with intervals, also in groups", "discrimination"),
    ("23b", "Differences in performance between sites", "discrimination"),
    ("24", "Results of model updating", "calibration"),
    ("25", "Interpretation, with fairness and earlier studies", ""),
    ("26", "Limits", "model_card"),
    ("27a", "Poor or missing input at use", "=poor_input"),
    ("27b", "What users must do and know", "=users"),
    ("27c", "Next steps of research", "=next_steps"),
)

CLAIM: tuple[Evidence, ...] = (
    ("1", "Title or abstract names the AI method", "=title"),
    ("2", "Abstract: design, methods, results, conclusions", ""),
    ("3", "Background, intended use and role", "=intended_use"),
    ("4", "Aims, objectives and hypotheses", "=objectives"),
    ("5", "Prospective or retrospective", "=sources"),
    ("6", "Goal of the study", "=objectives"),
    ("7", "Sources of data", "=sources"),
    ("8", "Who was included and excluded", "=eligibility"),
    ("9", "Preprocessing", "reproducibility"),
    ("10", "Selection of subsets", "flow"),
    ("11", "De-identification", "=deidentification"),
    ("12", "Missing data", "patients"),
    ("13", "How images were acquired", "=acquisition"),
    ("14", "Reference standard: definition", "=outcome"),
    ("15", "Reference standard: rationale", ""),
    ("16", "Reference standard: who annotated, and their training", "=annotations"),
    ("17", "Annotation of the test patients, and its tools", "=annotations"),
    ("18", "Variability between and within raters", "=rater_variability"),
    ("19", "How data were assigned to partitions", "reproducibility"),
    ("20", "Level at which partitions are disjoint", "reproducibility"),
    ("21", "Intended sample size", "=sample_size"),
    ("22", "Model: inputs, outputs, layers", "design"),
    ("23", "Software and versions", "reproducibility"),
    ("24", "Initial weights", "reproducibility"),
    ("25", "Training: augmentation, hyperparameters, convergence", "training"),
    ("26", "Choice of the final model", "training"),
    ("27", "Ensembling", "training"),
    ("28", "Metrics of performance", "discrimination"),
    ("29", "Uncertainty and significance", "discrimination"),
    ("30", "Robustness or sensitivity", "subgroups"),
    ("31", "Explainability", "importance"),
    ("32", "Evaluation on internal data", "discrimination"),
    ("33", "Testing on external data", EXTERNAL),
    ("34", "Registration of a clinical trial", "=registration"),
    ("35", "Patients included and excluded", "flow"),
    ("36", "Characteristics in each partition", "patients"),
    ("37", "Performance with its uncertainty", "discrimination"),
    ("38", "Diagnostic performance and its precision", "thresholds"),
    ("39", "Failure analysis", "subgroups"),
    ("40", "Limits", "model_card"),
    ("41", "Implications for practice", "=users"),
    ("42", "Full protocol, or further technical details", "=protocol"),
    ("43", "Where software, model and data are to be had", "=code_sharing"),
    ("44", "Funding", "=funding"),
)
TITLES = {"TRIPOD+AI (Collins 2024)": TRIPOD_AI, "CLAIM 2024 (Tejani 2024)": CLAIM}
NOTE = (
    "“Section” says where this report gives the facts, “authors” that the study's file has an answer, below; whether "
    "they suffice is for authors and reviewers to judge. “Author writes”: a text of the paper. “Not filled”: an empty "
    "field of the file's [report] table. “Not recorded”: the results hold nothing for it."
)


def section(study: Study, made: Mapping[str, Section]) -> Section:
    """Both checklists, and what the authors answered."""
    lists = [Checklist(title, _items(listed, study, made)) for title, listed in TITLES.items()]
    lead = " ".join(f"{one.title.partition(' (')[0]}: {_counts(one.items)}." for one in lists)
    fields = Answers.model_fields.items()
    answers = [(name.replace("_", " "), text) for name, _ in fields if (text := getattr(study.answers, name))]
    stated = [Facts(answers)] if answers else []
    return Section("Reporting checklists", f"{lead} {NOTE}", [*lists, *stated])


def _items(listed: Sequence[Evidence], study: Study, made: Mapping[str, Section]) -> list[Item]:
    validated = "external_validation" if study.results.external_validation else EXTERNAL
    external = "discrimination" if study.external else validated
    return [_item(number, text, external if by == EXTERNAL else by, study.answers, made) for number, text, by in listed]


def _item(number: str, text: str, by: str, answers: Answers, made: Mapping[str, Section]) -> Item:
    if not by:
        return Item(number, text, "author", "author writes")
    if by.startswith("="):
        filled = bool(getattr(answers, by[1:]))
        return Item(number, text, "section" if filled else "unfilled", "authors" if filled else "not filled")
    if by == EXTERNAL or (by in made and made[by].absent):
        return Item(number, text, "unfilled", "not recorded")
    return Item(number, text, "section", by)


def _counts(items: Sequence[Item]) -> str:
    counts: Counter[str] = Counter(_states(items))
    parts = [
        f"{counts['data']} of {len(items)} items are answered by the data",
        f"{counts['authors']} by the authors",
        f"{counts['author']} are for the paper",
        f"{counts['unfilled']} are not filled or recorded",
    ]
    return ", ".join(parts)


def _states(items: Sequence[Item]) -> Iterator[str]:
    for item in items:
        yield item.state if item.state != "section" else "authors" if item.where == "authors" else "data"
