"""What is done to an exam before it is measured or brought to the study's grid."""

from __future__ import annotations

from typing import TYPE_CHECKING

from shared_models.settings import Settings

if TYPE_CHECKING:
    from client.exams import Exam


class Preprocessing(Settings):
    """Steps that a site may ask for; by default none."""


def preprocess(exam: Exam, settings: Preprocessing) -> Exam:
    """The exam after the steps that the site asks for."""
    return exam
