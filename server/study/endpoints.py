"""Endpoints: how the hospitals of a study define an outcome, and a sentence where they differ."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

NOT_SAID = "not defined"


def differing(endpoints: Mapping[str, Mapping[str, str]]) -> Iterator[str]:
    """A sentence for each target that sites define differently.

    A site that gives no definition is named with the others; where none gives one, there is nothing to compare.

    Args:
        endpoints: By site, the definition of each of its targets; empty where it does not say.

    Example:
        >>> (sentence,) = differing({"oak": {"relapse": "RFI"}, "elm": {"relapse": "rfi"}, "fir": {"relapse": "OS"}})
        >>> sentence.partition(";")[0]
        'relapse differs between hospitals: RFI (oak, elm), OS (fir)'
    """
    for target in dict.fromkeys(name for defined in endpoints.values() for name in defined):
        sites: dict[str, list[str]] = {}
        words: dict[str, str] = {}
        for site, defined in endpoints.items():
            if target in defined:
                key = " ".join(defined[target].lower().split())
                words.setdefault(key, defined[target] or NOT_SAID)
                sites.setdefault(key, []).append(site)
        if len(sites) > 1:
            definitions = ", ".join(f"{words[key]} ({', '.join(names)})" for key, names in sites.items())
            differs = "may differ" if "" in sites else "differs"
            yield (
                f"{target} {differs} between hospitals: {definitions}; one network learns them as one outcome. Ask for "
                "the same `endpoint` and `deaths` in their settings, or tell readers of it"
            )
