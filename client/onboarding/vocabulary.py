"""Synonyms and plausible ranges of clinical columns, in the words that hospitals use.

Words are for `python -m client init`, which proposes and marks what it guessed; ranges are for the report of `check`.
A name is compared by its words: lower case, without umlauts and signs, as `words` makes them.
"""

from __future__ import annotations

import functools
import re
import unicodedata
from dataclasses import dataclass

_UMLAUTS = {"ä": "ae", "ö": "oe", "ü": "ue", "ß": "ss", "Ä": "Ae", "Ö": "Oe", "Ü": "Ue"}


@dataclass(frozen=True)
class Known:
    """A thing that studies ask for.

    Attributes:
        text: What it may be called, without the words in `FILLERS`, separated by commas.
        plausible: The values of nearly all patients, in the study's unit.
        median: Where a hospital's median lies if the unit is right.
    """

    text: str
    plausible: tuple[float, float] | None = None
    median: tuple[float, float] | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """What it may be called."""
        return tuple(" ".join(name.split()) for name in self.text.split(","))


_SIZE = """size, tumor size, tumour size, lesion size, diameter, max diameter, tumor diameter, tumour diameter,
largest diameter, tumorgroesse, groesse, durchmesser, taille, tamano"""
_NODES = "nodes, nodal, lymph nodes, ln, lymphknoten, nodal involvement, axillary nodes, pn, n stage, staging nodes"
_ER = "er, estrogen receptor, oestrogen receptor, oestrogenrezeptor, oestrogen, estrogen"
_PR = "pr, pgr, progesterone receptor, progesteronrezeptor, progesterone, progesteron"
_SUBTYPE = "subtype, mol subtype, molecular subtype, subtyp, molekularer subtyp, intrinsic subtype"

KNOWN = {
    "age_years": Known("age, alter, edad, eta, leeftijd, patient age, date birth", (15, 110), (35, 80)),
    "size_mm": Known(_SIZE, (1, 200), (8, 60)),
    "nodes": Known(_NODES),
    "er": Known(_ER),
    "pr": Known(_PR),
    "her2": Known("her2, her 2, her2neu, her 2 neu, her2 neu, erbb2"),
    "ki67_percent": Known("ki67, ki 67, mib1, mib 1, ki67 index, mib1 index", (0, 100), (5, 60)),
    "grade": Known("grade, grading, tumor grade, nottingham grade, histologic grade", (1, 3)),
    "nodes_positive": Known("positive nodes, nodes positive, involved nodes", (0, 100)),
    "shape": Known("shape, mass shape, form, herdform"),
    "margin": Known("margin, margins, mass margin, mass margins, rand, begrenzung"),
    "density": Known("density, breast density, acr, birads density, dichte, brustdichte"),
    "subtype": Known(_SUBTYPE),
    "pam50": Known("pam50, pam 50, pam50 subtype"),
    "relapse": Known("relapse, recurrence, recurred, rezidiv, rueckfall, pathology"),
    # genes by other names than their symbols
    "HER2": Known("erbb2, her2, neu"),
    "ERBB2": Known("erbb2, her2"),
    "PGR": Known("pgr, progesterone receptor gene"),
    "MKI67": Known("mki67, ki67"),
}


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


# Words that say nothing of what a column holds: `ER status`, `age_at_diagnosis`, `Age (y)`, `MIB-1 %`.
FILLERS = _words(
    """status at diagnosis diagnose the of in y yr yrs year years jahre mm cm pct percent prozent ihc value result
    to from date der des die bei anzahl number no count positivity days"""
)
# Words by which a column is of something else: `Reconstruction Diameter`, `ER (for the other side)`.
FOREIGN = _words(
    """other contralateral outside reconstruction fov slice mri mammo death family partner surgery
    metastatic metastasis metastases brain liver contact treatment therapy response"""
)
_UNITS = _words("cm months days percent years mm mm3 cm3 ml weeks pct inch in log")
RECURRENCE = _words("recurrence recurred recur relapse rezidiv event ereignis rfs dfs progression")
FOLLOW_UP = _words("last letzter letzte follow followup followed fu contact kontakt free censored nachsorge")
IDENTIFIER = _words("id pid patient patientid patientennummer nummer mrn subject case sample submitter barcode")
# A word of a column that holds times, and how many days its unit has.
TIMES_DAYS = {
    **dict.fromkeys(_words("days day tage tagen d t time rfstime rtime zeit"), 1.0),
    **dict.fromkeys(_words("months month monate mo"), 30.4375),
    **dict.fromkeys(_words("years year jahre"), 365.25),
}
NO = _words("0 no n nein negative negativ neg - absent false n0 pn0 non benign")
YES = _words("1 yes y ja j positive positiv pos + ++ +++ present true n+ n1 n2 n3 pn1 pn2 pn3 pn+ oui malignant")


@functools.cache
def words(name: str) -> tuple[str, ...]:
    """`TumorSizeMM` as `tumor size mm`; `Östrogenrezeptor (%)` as `oestrogenrezeptor`."""
    latin = "".join(_UMLAUTS.get(letter, letter) for letter in name)
    ascii_only = unicodedata.normalize("NFKD", latin).encode("ascii", "ignore").decode()
    return tuple(re.findall(r"[a-z0-9]+", re.sub(r"(?<=[a-z])(?=[A-Z])", " ", ascii_only).lower()))


def plain(name: str) -> str:
    """A column's name without the words that say nothing, as it is compared."""
    known = words(name)
    return " ".join(word for word in known if word not in FILLERS) or " ".join(known)


def known_feature(name: str) -> Known | None:
    """What is known of a study's feature by its name; another unit in the name makes it another thing.

    >>> known_feature("age") == known_feature("age_years") == KNOWN["age_years"]
    True
    >>> known_feature("size_cm")
    """
    if name in KNOWN:
        return KNOWN[name]
    units = set(words(name)) & _UNITS
    for other, thing in KNOWN.items():
        if plain(name) in thing.names and units <= set(words(other)):
            return thing
    return None
