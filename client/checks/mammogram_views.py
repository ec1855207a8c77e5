"""Suspicions of a patient's mammograms beside each other: dates, views, and one image twice."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence

from client.checks.suspicion import Suspicion, suspicion
from client.imaging.exam_facts import ExamFacts

Facts = Mapping[str, Mapping[int, ExamFacts]]
View = tuple[str, int, ExamFacts]  # modality, row, facts


def view_suspicions(exams: Facts, patients: Sequence[str]) -> list[Suspicion]:
    """What looks wrong, each with the rows that it concerns.

    Args:
        exams: By modality and row; those that name a view are mammograms.
        patients: Of the R rows.
    """
    by_patient: dict[str, list[View]] = defaultdict(list)
    for name, rows in exams.items():
        for row, facts in rows.items():
            if "view" in facts.choice:
                by_patient[patients[row]].append((name, row, facts))
    return [*_of_patients(list(by_patient.values())), *_mixed(exams, patients)]


def _of_patients(patients: Sequence[Sequence[View]]) -> Iterator[Suspicion]:
    dates = [views for views in patients if len({facts.choice["study_date"] for *_, facts in views} - {""}) > 1]
    if dates:
        text = f"mammograms of {_patients(dates)} are of several dates; give the views of one examination"
        yield suspicion(text, _rows(dates))
    twice = [views for views in patients if any(_same_image(views, at) for at in range(len(views)))]
    if twice:
        text = f"one image of {_patients(twice)} is given as two views; check the files"
        yield suspicion(text, _rows(twice))


def _same_image(views: Sequence[View], at: int) -> bool:
    """Whether another of the views shows the same; two modalities may use one file."""
    name, _, facts = views[at]
    return any(
        facts.voxels_hash == other.voxels_hash != "" and (name == its or facts.choice["view"] != other.choice["view"])
        for its, _, other in views[:at]
    )


def _mixed(exams: Facts, patients: Sequence[str]) -> Iterator[Suspicion]:
    """Modalities of one mammogram a patient, which is not of the same view in all."""
    for name, rows in exams.items():
        views = {row: view for row, facts in rows.items() if (view := facts.choice.get("view"))}
        if len({patients[row] for row in views}) < len(views) or len(set(views.values())) < 2:
            continue
        counts = Counter(views.values()).most_common()
        listed = ", ".join(f"{count} {view}" for view, count in counts)
        text = f"modalities.{name}: mammograms are of several views: {listed}; give those of one, with `view`"
        yield suspicion(text, [row for row, view in views.items() if view != counts[0][0]])


def _patients(chosen: Sequence[Sequence[View]]) -> str:
    return f"{len(chosen)} patient{'s' * (len(chosen) > 1)}"


def _rows(chosen: Sequence[Sequence[View]]) -> list[int]:
    return sorted({row for views in chosen for _, row, _ in views})
