"""Texts in cells that hold no value: Excel's errors, words for a missing value, lines of totals, in six languages."""

from __future__ import annotations

import re

# #N/A, #NV, #WERT!, #¿NOMBRE?, #DIV/0!, and a number too wide for its column; `#12` may be an identifier.
_EXCEL_ERROR = re.compile(r"#(?:[¡¿]?[A-ZÀ-ÝÄÖÜ/0-9]{2,12}[!?]|N/?[AVDB]|#{2,})")

_MISSING = """
na n/a n.a. n.a nan nat <na> null none nil nc np nd n.d. n/d nb n/b nr n.r. ? ?? . - -- --- .. k.a. k.a ka k/a unknown
unk unkn missing not_available not_applicable not_known not_done not_reported not_evaluated not_assessed indeterminate
pending blank empty unbekannt fehlt fehlend nicht_bekannt nicht_verfuegbar nicht_bestimmt n.b. n.best. keine_angabe
entfaellt inconnu inconnue non_disponible non_renseigne non_renseigné manquant sans_objet desconocido desconocida
sin_dato sin_datos no_disponible no_consta s/d sconosciuto sconosciuta non_disponibile non_noto mancante non_eseguito
onbekend niet_bekend ontbreekt niet_beschikbaar desconhecido desconhecida sem_dados ignorado nao_disponivel
não_disponível
"""
_TOTALS = """
total totals grand_total subtotal sum sums count n= mean average avg median sd std stdev min max minimum maximum
gesamt insgesamt summe gesamtsumme anzahl mittelwert durchschnitt mittel standardabweichung somme total_général
total_general moyenne médiane mediane effectif suma media promedio mediana recuento totale somma conteggio
deviazione_standard totaal som gemiddelde mediaan aantal soma média contagem toplam genel_toplam ortalama ergebnis
ergebnisse résultat resultat resultado resultados risultato risultati resultaat
"""
MISSING_WORDS, TOTAL_WORDS = frozenset(_MISSING.split()), frozenset(_TOTALS.split())


def is_excel_error(text: str) -> bool:
    """Whether a cell holds an error of Excel, in any language.

    >>> [is_excel_error(text) for text in ("#NV", "#WERT!", "#¡DIV/0!", "#####", "#12")]
    [True, True, True, True, False]
    """
    return text.startswith("#") and _EXCEL_ERROR.fullmatch(text) is not None


def is_missing_word(text: str) -> bool:
    """Whether a text most likely means that nothing is known; what it means in a column, its YAML says."""
    return is_excel_error(text) or "_".join(text.casefold().split()) in MISSING_WORDS


def is_total(text: str) -> bool:
    """Whether a line that begins so sums others up.

    >>> [is_total(text) for text in ("Gesamt:", "Ø", "Total 2020", "T-1")]
    [True, True, False, False]
    """
    return "_".join(text.casefold().strip(" :.").split()) in TOTAL_WORDS or text.strip(" :") in {"Σ", "∑", "Ø", "⌀"}
