"""Authors' answers for a study's report: the `[report]` table of its file, for what no data can tell.

They are printed and decide nothing that is read or sent; hospitals do not approve them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from pydantic import Field

from shared_models.bounded_json import parse_json
from shared_models.settings import Settings, SettingsError, parse_settings


class Answers(Settings):
    """What the authors say of their study; empty where they say nothing."""

    title: str = Field("", description="title of the report: the population, what is predicted, and when")
    population: str = Field("", description="the patients: who, from when to when, in which care and places")
    eligibility: str = Field("", description="who was included, and who was not")
    sources: str = Field("", description="where the data come from, prospective or retrospective")
    dates: str = Field("", description="start and end of accrual, end of follow-up")
    treatments: str = Field("", description="treatments received, and how they were handled")
    time_zero: str = Field("", description="the day from which times are counted, and on which a prediction is made")
    outcome: str = Field("", description="what counts as the outcome, and what becomes of deaths without it")
    outcome_assessment: str = Field("", description="who assessed the outcome, how, and whether predictors were known")
    predictors: str = Field(
        "", description="what is known when a prediction is made, how and when it was measured, and why it was chosen"
    )
    predictor_assessment: str = Field("", description="who assessed predictors, and whether the outcome was known")
    acquisition: str = Field("", description="how images were acquired: scanners, protocols, contrast agent")
    annotations: str = Field("", description="who drew masks or labelled, with which tools and training")
    rater_variability: str = Field("", description="how far two raters agree, and what was done about it")
    deidentification: str = Field("", description="how records were de-identified at the hospitals")
    objectives: str = Field("", description="what the study was to find out, and whether to develop, evaluate or both")
    rationale: str = Field("", description="context in care, and which models there are already")
    inequalities: str = Field("", description="known inequalities in health between groups of patients")
    fairness: str = Field("", description="what was done so that the model serves all groups")
    sample_size: str = Field("", description="how the number of patients was arrived at")
    measure: str = Field("", description="measure of performance that was stated before the study")
    intended_use: str = Field("", description="what the model is made for, and who is to use it")
    not_intended_use: str = Field("", description="what it is not made for")
    poor_input: str = Field("", description="what to do about missing or poor input when the model is used")
    users: str = Field("", description="what users must do and know")
    next_steps: str = Field("", description="what is needed before the model can be used, and elsewhere")
    ethics: str = Field("", description="ethical approval, and consent or its waiver")
    funding: str = Field("", description="who paid, and what they had to do with the study")
    conflicts: str = Field("", description="conflicts of interest")
    protocol: str = Field("", description="where the protocol can be read")
    registration: str = Field("", description="register and number")
    data_sharing: str = Field("", description="who can get the data, and how")
    code_sharing: str = Field("", description="where the code is that the study ran")
    involvement: str = Field("", description="how patients and the public took part in the study")
    licence: str = Field("", description="licence of the weights")
    contact: str = Field("", description="whom to write to")


def parse_answers(value: Mapping[str, Any] | str) -> Answers:
    """The answers of a `[report]` table, or of the text that `answers_text` made of them.

    Raises:
        SettingsError: If a key is unknown, or the text holds none.
    """
    if isinstance(value, str):
        try:
            value = parse_json(value or "{}")
        except ValueError:
            value = ()  # type: ignore[assignment]
    if not isinstance(value, Mapping):
        msg = 'expected a table, as: [report] and a line title = "Recurrence within five years"'
        raise SettingsError(msg)
    return parse_settings(Answers, value, source="")


def answers_text(answers: Answers) -> str:
    """The answers there are as one line of JSON, which travels among a study's settings; empty where there are none."""
    given = {name: text for name, text in answers.model_dump().items() if text}
    return json.dumps(given, ensure_ascii=False, sort_keys=True) if given else ""
