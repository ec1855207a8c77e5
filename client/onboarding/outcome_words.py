"""Words of outcomes and follow-up for `init`, in the languages of `client.onboarding.vocabulary`."""

from __future__ import annotations

from client.onboarding.vocabulary import words


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


# A name speaks of a thing if one of its words is among the short ones, or it holds one of the long ones anywhere:
# `Rezidivdatum` is one word.
_RECURRENCE = (
    _words("rfs dfs efs pfs dmfs ddfs dfi pfi ttr rec recur rtime rfstime event ereignis evento evenement"),
    ("recurr", "relaps", "rezidiv", "recidiv", "rechute", "recaida", "recaid", "rueckfall", "progress", "diseasefree"),
)
_DEATH = (
    _words("os dss dead died dtime vital mort muerte morte tod exitus obito deces alive survival"),
    ("death", "deceas", "verstorb", "todes", "gestorben", "sterbe", "overlijd", "overled", "fallec", "surviv",
     "ueberleb", "survie", "sopravviv", "supervivencia", "overleving", "sobrevida", "vitalstatus", "decede"),
)  # fmt: skip
_FOLLOW_UP = (
    _words("last fu free lfu dln censored final"),
    ("follow", "letzt", "nachsorge", "kontakt", "contact", "dernier", "ultim", "laatste", "suivi", "seguimiento",
     "opvolg", "acompanhamento", "nouvelles"),
)  # fmt: skip
_RESPONSE = (_words("pcr response responder reponse"), ("ansprechen", "respuesta", "risposta", "respons"))
_DIAGNOSIS = (_words("dx ed"), ("diagnos", "erstdiagnos"))
_SURGERY = (_words("op surgery"), ("surg", "operat", "chirurg", "cirug", "cirurg"))
_BIRTH = (_words("dob"), ("birth", "geburt", "naissance", "nacimiento", "nascita", "geboorte", "nascimento"))
# A word of a column that holds times, and how many days its unit has.
TIMES_DAYS = {
    **dict.fromkeys(_words("days day tage tagen d jours jour dias giorni dagen"), 1.0),
    **dict.fromkeys(_words("months month monate monaten mo mois meses mesi maanden"), 30.4375),
    **dict.fromkeys(_words("years year jahre jahren ans anos anni jaar jaren"), 365.25),
}
TIMES = _words("t time rfstime rtime dtime zeit temps delai tiempo tempo tijd tte")
AGE = _words("age alter edad eta leeftijd idade")  # a time since birth is none since the diagnosis


def _speaks_of(name: str, thing: tuple[frozenset[str], tuple[str, ...]]) -> bool:
    name_words = words(name)
    compact = "".join(name_words)
    return bool(set(name_words) & thing[0]) or any(stem in compact for stem in thing[1])


def speaks_of_recurrence(name: str) -> bool:
    """Whether a column is about recurrence, relapse or progression, or survival free of them."""
    return _speaks_of(name, _RECURRENCE) and "score" not in words(name)


def speaks_of_death(name: str) -> bool:
    """Whether a column is about death or survival, and not about survival free of a recurrence."""
    return _speaks_of(name, _DEATH) and not speaks_of_recurrence(name)


def speaks_of_follow_up(name: str) -> bool:
    """Whether a column is about the last time that a patient was seen."""
    return _speaks_of(name, _FOLLOW_UP)


def speaks_of_diagnosis(name: str) -> bool:
    """Whether a column of dates is about the diagnosis."""
    return _speaks_of(name, _DIAGNOSIS) and not is_after_diagnosis(name)


def speaks_of_surgery(name: str) -> bool:
    """Whether a column of dates is about the first operation."""
    return _speaks_of(name, _SURGERY) and not is_after_diagnosis(name)


def speaks_of_birth(name: str) -> bool:
    """Whether a column of dates is about the birth."""
    return _speaks_of(name, _BIRTH)


def is_after_diagnosis(name: str) -> bool:
    """Whether a column is known only once a patient was treated and followed: no feature.

    >>> [is_after_diagnosis(name) for name in ("Rezidivdatum", "rtime", "OS_MONTHS", "Recurrence score", "Grade")]
    [True, True, True, False, False]
    """
    return any(speaks(name) for speaks in (speaks_of_recurrence, speaks_of_death, speaks_of_follow_up, _of_response))


def _of_response(name: str) -> bool:
    return _speaks_of(name, _RESPONSE)
