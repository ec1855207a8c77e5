"""Synonyms and plausible ranges of clinical columns, in the words that hospitals use in seven languages.

Words are for `python -m client init`, which proposes and marks what it guessed; ranges are for the report of `check`.
A name is compared by its words: lower case, without umlauts, accents and signs, as `words` makes them. Words of
outcomes are in `client.onboarding.outcome_words`.
"""

from __future__ import annotations

import functools
import re
import unicodedata
from dataclasses import dataclass

_UMLAUTS = {
    "ä": "ae",
    "ö": "oe",
    "ü": "ue",
    "ß": "ss",
    "Ä": "Ae",
    "Ö": "Oe",
    "Ü": "Ue",
    "œ": "oe",
    "Œ": "Oe",
    "æ": "ae",
    "ø": "o",
}


@dataclass(frozen=True)
class Known:
    """A thing that studies ask for.

    Attributes:
        text: What it may be called, without the words in `FILLERS`, separated by commas.
        plausible: The values of nearly all patients, in the study's unit.
        median: Where a hospital's median lies if the unit is right.
        categories: What it may be where no study lists that; none for a number.
        ordinal: Whether it is one of a few steps, whose names hold their number, as `G2` or `pT1c`.
    """

    text: str
    plausible: tuple[float, float] | None = None
    median: tuple[float, float] | None = None
    categories: tuple[str, ...] = ()
    ordinal: bool = False

    @property
    def is_amount(self) -> bool:
        """Whether it is measured, and 0 in nobody."""
        return self.median is not None and self.median[0] > 0

    @functools.cached_property
    def names(self) -> tuple[str, ...]:
        """What it may be called."""
        return tuple(" ".join(name.split()) for name in self.text.split(","))


_BINARY = ("negative", "positive")
_AGE = """age, alter, edad, eta, leeftijd, idade, patient age, patientenalter, age patient, date birth, age diag,
alter ed, age index, age dx, dob, birth, birthdate, geburtsdatum, naissance, fecha nacimiento, nacimiento, data nascita,
data di nascita, geboortedatum, data nascimento"""
_SIZE = """size, tumor size, tumour size, lesion size, diameter, max diameter, tumor diameter, tumour diameter, tsize,
largest diameter, tumorgroesse, groesse, durchmesser, tumordurchmesser, taille, taille tumorale, taille tumeur, tamano,
tamano tumor, tamano tumoral, dimensione, dimensioni, dimensione tumore, diametro, diametro tumor, grootte,
tumorgrootte, tumordiameter, tamanho, tamanho tumor, pathologic size, t size"""
_NODES = """nodes, node, nodal, lymph nodes, lymph node, lymphnode, ln, lymphknoten, lk, nodal involvement,
axillary nodes, pn, n stage, staging nodes, node stage, ganglions, ganglionnaire, ganglios, ganglio, linfonodi,
linfonodo, klieren, lymfeklieren, okselklieren, linfonodos, ln involvement, lk befall"""
_NODES_POSITIVE = """positive nodes, nodes positive, involved nodes, nodes, positive lymph nodes, lymph nodes positive,
lymph nodes examined positive, npos, ln pos, positive lk, befallene lymphknoten, positive lymphknoten, befallene lk,
ganglions envahis, ganglions positifs, ganglios positivos, ganglios afectados, linfonodi positivi, positieve klieren,
linfonodos positivos, pnodes"""
_NODES_EXAMINED = """nodes examined, examined nodes, nodes removed, removed nodes, lymph nodes examined,
lymph nodes removed, nexam, ln examined, untersuchte lymphknoten, entfernte lymphknoten, ganglions examines,
ganglions preleves, ganglios examinados, ganglios extirpados, linfonodi esaminati, linfonodi asportati,
onderzochte klieren, linfonodos examinados"""
_HEIGHT = """height, body height, patient height, koerpergroesse, altura, estatura, statura, lichaamslengte,
taille patiente, taille patient"""
_WEIGHT = "weight, body weight, patient weight, gewicht, koerpergewicht, poids, peso, lichaamsgewicht"
_ER = """er, estrogen receptor, oestrogen receptor, oestrogenrezeptor, estrogenrezeptor, oestrogen, estrogen,
recepteurs oestrogenes, recepteur oestrogenes, ro, receptor estrogeno, receptores estrogenos, receptores estrogeno,
re, recettori estrogeni, recettore estrogeno, recettori estrogenici, oestrogeenreceptor, oestrogeen,
receptor estrogenio, receptores estrogenio, hr er"""
_PR = """pr, pgr, progesterone receptor, progesteronrezeptor, progesterone, progesteron, recepteurs progesterone,
recepteur progesterone, rp, receptor progesterona, receptores progesterona, progesterona, recettori progesterone,
recettore progesterone, recettori progestinici, progesteronreceptor"""
_KI67 = "ki67, ki 67, mib1, mib 1, ki67 index, mib1 index, ki67 li, ki67 score, indice ki67, proliferationsindex"
_GRADE = """grade, grad, grading, tumor grade, tumour grade, nottingham grade, histologic grade, histological grade,
sbr, grade sbr, grade histologique, grade histo, grado, grado istologico, grado histologico, grado tumoral, graad,
histologische graad, tumorgraad, gradering, differentiatiegraad, grau, grau histologico, grau tumoral, nhg, elston,
elston ellis, bloom richardson, scarff bloom richardson, differenzierungsgrad, neoplasm histologic grade, malignancy"""
_MENOPAUSE = """menopause, meno, menopausal, postmenopausal, menopausenstatus, menostat, statut menopausique,
menopausique, menopausia, estado menopausico, menopausa,
stato menopausale, menopauze, menopauzale, estado menopausal, menopausal state"""
_SUBTYPE = """subtype, mol subtype, molecular subtype, subtyp, molekularer subtyp, intrinsic subtype,
sous type, sous type moleculaire, subtipo, subtipo molecular, sottotipo, sottotipo molecolare, moleculair subtype"""
_T = """t, pt, ct, t stage, pt stage, tumor stage t, staging tumor size t, ajcc pathologic t, ajcc t, path t stage,
t stadium, stade t, pt stadium, tumor t, ajcc tumor pathologic pt"""
_N = "n, cn, ajcc pathologic n, path n stage, n stadium, stade n, pn stadium, staging nodes nx replaced n"
_STAGE = """stage, ajcc stage, ajcc pathologic stage, pathologic stage, path stage, uicc, uicc stage, uicc stadium,
stadium, stade, stade figo, estadio, stadio, estadiamento, ajcc pathologic tumor stage, clinical stage, tnm stage"""
_HISTOLOGY = """histology, histologic, histologic type, histological type, histologie, histologischer typ,
type histologique, tipo histologico, istologia, istotipo, tipo istologico, histologia, histologisch type"""
_LVI = """lvi, lymphovascular invasion, lymphovascular, lymphgefaessinvasion, lymphgefaesseinbruch, emboles,
emboles vasculaires, invasion lymphovasculaire, invasion linfovascular, invasione linfovascolare,
invasao linfovascular"""
_MARGIN = """margin, margins, mass margin, mass margins, rand, begrenzung, herdbegrenzung, randbegrenzung, contours,
contour, margen, margenes, marges, margine, margini, margem, margens"""

KNOWN = {
    "age_years": Known(_AGE, (15, 110), (35, 80)),
    "size_mm": Known(_SIZE, (1, 200), (8, 60)),
    "nodes": Known(_NODES, categories=_BINARY),
    "er": Known(_ER, categories=_BINARY),
    "pr": Known(_PR, categories=_BINARY),
    "her2": Known("her2, her 2, her2neu, her 2 neu, her2 neu, erbb2, cerbb2, c erbb2, her2 fish", categories=_BINARY),
    "ki67_percent": Known(_KI67, (0, 100), (5, 60)),
    "grade": Known(_GRADE, (1, 3), ordinal=True),
    "nodes_positive": Known(_NODES_POSITIVE, (0, 100), (0, 6)),
    "nodes_examined": Known(_NODES_EXAMINED, (0, 100)),
    "menopause": Known(_MENOPAUSE, categories=("pre", "post")),
    "t_stage": Known(_T, (0, 4), ordinal=True),
    "n_stage": Known(_N, (0, 3), ordinal=True),
    "stage": Known(_STAGE, (0, 4), ordinal=True),
    "lymphovascular_invasion": Known(_LVI, categories=_BINARY),
    "bmi": Known("bmi, body mass index, koerpermassindex, imc", (10, 80), (18, 40)),
    "height_cm": Known(_HEIGHT, (120, 220), (150, 180)),
    "weight_kg": Known(_WEIGHT, (25, 250), (50, 100)),
    "histology": Known(_HISTOLOGY),
    "shape": Known("shape, mass shape, form, herdform, forme, forma, vorm"),
    "margin": Known(_MARGIN),
    "density": Known("density, breast density, acr, birads density, dichte, brustdichte, densite, densidad, densita"),
    "subtype": Known(_SUBTYPE),
    "pam50": Known("pam50, pam 50, pam50 subtype, pam50 mrna, pam50 call, claudin subtype"),
    "relapse": Known("relapse, recurrence, recurred, rezidiv, rueckfall, pathology, rechute, recidive, recaida"),
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
    """status statut estado stato at diagnosis diagnose diagnostic diagnostico diagnosi the of in y yr yrs year years
    jahre jahren ans anos anni jaar mm cm kg pct percent prozent ihc value result resultat ergebnis to from date datum
    der des die das bei au aux du de la le les del della dei al anzahl number nombre numero no nr count positivity days
    at by und et"""
)
# Words by which a column is of something else: `Reconstruction Diameter`, `ER (for the other side)`.
FOREIGN = _words(
    """other contralateral outside reconstruction fov slice mri mammo death family partner surgery
    metastatic metastasis metastases brain liver contact treatment therapy response"""
)
_UNITS = _words("cm kg months days percent years mm mm3 cm3 ml weeks pct inch in log")
LENGTHS = _words("mm cm")
# What one column may stand for, as the number of nodes for whether there are any.
_RELATED = (
    _words("nodes nodes_positive n_stage"),
    _words("er ESR1"),
    _words("pr PGR"),
    _words("her2 HER2 ERBB2"),
    _words("ki67_percent MKI67"),
    _words("subtype pam50"),
    _words("t_stage n_stage stage"),
)
# Words of what a scanner was set to.
SCANNER = _words(
    "manufacturer scanner fov tr te matrix slice flip tesla reconstruction contrast acquisition mri rows columns"
)
# Words of columns of free text, which may name anybody.
REMARKS = _words(
    """remark remarks comment comments note notes bemerkung bemerkungen anmerkung anmerkungen kommentar kommentare notiz
    notizen freitext remarque remarques commentaire commentaires observacion observaciones comentario comentarios nota
    notas osservazione osservazioni commento commenti opmerking opmerkingen toelichting observacao observacoes"""
)
IDENTIFIER = _words(
    """id pid patient patientid patientennummer nummer mrn subject case sample submitter barcode pseudonym pat patnr
    fallnummer dossier nip paciente paziente patientnummer historia cartella nhc ipp prontuario"""
)


@functools.cache
def words(name: str) -> tuple[str, ...]:
    """`TumorSizeMM` as `tumor size mm`; `Östrogenrezeptor (%)` as `oestrogenrezeptor`."""
    latin = "".join(_UMLAUTS.get(letter, letter) for letter in unicodedata.normalize("NFC", name))
    ascii_only = unicodedata.normalize("NFKD", latin).encode("ascii", "ignore").decode()
    return tuple(re.findall(r"[a-z0-9]+", re.sub(r"(?<=[a-z])(?=[A-Z])", " ", ascii_only).lower()))


def plain(name: str) -> str:
    """A column's name without the words that say nothing, as it is compared."""
    known = words(name)
    return " ".join(word for word in known if word not in FILLERS) or " ".join(known)


def feature_name(text: str) -> str:
    """A name that a study may use for a column or a category of no known name; empty where nothing is left.

    >>> feature_name("Tumorgröße (cm)"), feature_name("3rd line")
    ('tumorgroesse_cm', 'x_3rd_line')
    """
    joined = "_".join(words(text))
    return f"x_{joined}" if joined[:1].isdigit() else joined


def category_name(text: str) -> str:
    """A category's name for a text: its words, and what its signs say.

    >>> [category_name(text) for text in ("<=20", "20-50", ">50", "Invasive ductal")]
    ['up_to_20', '20_to_50', 'above_50', 'invasive_ductal']
    """
    for sign, phrase in (("<=", " up to "), ("≤", " up to "), (">=", " from "), ("≥", " from "), ("<", " below ")):
        text = text.replace(sign, phrase)
    text = re.sub(r"(?<=\d)\s*[-\u2013]\s*(?=\d)", " to ", text.replace(">", " above "))
    return "_".join(words(text))


@functools.cache
def known_feature(name: str) -> Known | None:
    """What is known of a study's feature by its name; another unit in the name makes it another thing.

    >>> known_feature("age") == known_feature("age_years") == KNOWN["age_years"]
    True
    >>> known_feature("size_cm")
    """
    if name in KNOWN:
        return KNOWN[name]
    plain_name, units = plain(name), set(words(name)) & _UNITS
    for other, thing in KNOWN.items():
        if plain_name in thing.names and units <= set(words(other)):
            return thing
    return None


@functools.cache
def meanings(name: str) -> frozenset[str]:
    """Which known things a name may stand for, with those that are read from the same columns; empty where unknown.

    >>> sorted(meanings("Tumorgröße (mm)") & meanings("size_mm")), sorted(meanings("MIB-1 %") & meanings("size_mm"))
    (['size_mm'], [])
    """
    plain_name = plain(name)
    meant = {thing for thing, known in KNOWN.items() if name == thing or plain_name in known.names}
    return frozenset(meant.union(*(group for group in _RELATED if group & meant)))
