"""What a center can compute of honest sites' numbers, by linear algebra over everything it holds.

A masked block is a number of its site plus masks. A mask whose key the center can derive is none; each other one is a
symbol, by the bytes of its key. What combinations of blocks leave no symbol is then a matter of rank.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Hashable
from functools import lru_cache

from federation import Event, Federation

from shared_models.secure_aggregation.membership import surviving
from shared_models.secure_aggregation.secrets import MASK, SEED, agree, combine, pair_key, self_key
from shared_models.secure_aggregation.signing import digest

PRIME = 2**61 - 1
Row = dict[Hashable, int]
cached_agree = lru_cache(maxsize=100_000)(agree)


@lru_cache(maxsize=100_000)
def cached_combine(shares: tuple[tuple[int, bytes], ...]) -> bytes:
    return combine(dict(shares))


def reconstructed(world: Federation) -> dict[tuple[str, str], bytes]:
    """Secrets of honest sites by H(K) and name, of which the center has enough shares."""
    by_secret: dict[tuple[str, str], dict[str, bytes]] = defaultdict(dict)
    for (own, secret, holder), (_, share) in world.shares.items():
        by_secret[own, secret][holder] = share
    secrets = {}
    for (own, secret), shares in by_secret.items():
        deal = world.deals.get(own)
        if deal is None or world.keys[own].name in world.corrupt or len(shares) < deal.threshold:
            continue
        places = {name: place for place, name in enumerate(sorted(deal.shares), 1)}
        chosen = sorted(shares)[: deal.threshold]
        secrets[own, secret] = cached_combine(tuple((places[name], shares[name]) for name in chosen))
    return secrets


def derivable(world: Federation, event: Event, secrets: dict[tuple[str, str], bytes]) -> set[bytes]:
    """Keys of masks that may be in an answer, and that the center can derive."""
    hashed, name = digest(event.view), event.site
    revealed_keys = {world.keys[own].mask_key: value for (own, secret), value in secrets.items() if secret == MASK}
    private = world.private | revealed_keys
    own = world.keys[event.own].mask_key
    seeds = {value for (_, secret), value in secrets.items() if secret.startswith(SEED)}
    others = [other for other in event.view.present if other != name]
    keys = set()
    for other in others:
        point = event.points[other]
        agreed = [cached_agree(private[one], two) for one, two in ((own, point), (point, own)) if one in private]
        keys |= {pair_key(one, hashed, name, other, group) for one in agreed for group in event.masks}
    return keys | {self_key(seed, hashed, name, group) for seed in seeds for group in event.masks}


def revealed(world: Federation, name_input: Callable[[Event, str], Hashable]) -> dict[str, list[Row]]:
    """By group, a basis of the combinations of honest sites' numbers that the center can compute."""
    secrets = reconstructed(world)
    rows: dict[str, list[tuple[Row, Row]]] = defaultdict(list)
    for event in world.events:
        if event.site in world.corrupt:
            continue
        known = derivable(world, event, secrets)
        for group, masks in event.masks.items():
            hidden: Row = defaultdict(int)
            for key, sign in masks:
                if key not in known:
                    hidden[key] = (hidden[key] + sign) % PRIME
            holds = group in _true_groups(world, event)
            rows[group].append((dict(hidden), {name_input(event, group): 1} if holds else {}))
    return {
        group: _reduce([shown for hidden, shown in _eliminate(combinations) if not hidden])
        for group, combinations in rows.items()
    }


def _true_groups(world: Federation, event: Event) -> set[str]:
    facts = world.facts[event.site]
    return {
        *facts.modalities,
        *facts.known,
        *(part for part in ("validation", "test") if getattr(facts, part)),
        "train",
    }


def _minus(row: Row, other: Row, factor: int) -> Row:
    difference = dict(row)
    for key, value in other.items():
        difference[key] = (difference.get(key, 0) - factor * value) % PRIME
    return {key: value for key, value in difference.items() if value}


def _eliminate(rows: list[tuple[Row, Row]]) -> list[tuple[Row, Row]]:
    """Gaussian elimination over the masks, carried out on the numbers too."""
    done: list[tuple[Row, Row]] = []
    for hidden, shown in rows:
        for pivot_row, pivot_shown in done:
            if pivot_row and (factor := hidden.get(next(iter(pivot_row)), 0)):
                factor = factor * pow(next(iter(pivot_row.values())), -1, PRIME) % PRIME
                hidden, shown = _minus(hidden, pivot_row, factor), _minus(shown, pivot_shown, factor)
        done.append(({key: value for key, value in hidden.items() if value}, shown))
    return done


def _reduce(rows: list[Row]) -> list[Row]:
    """Reduced row echelon form; rows of nothing left out."""
    basis: list[Row] = []
    for row in rows:
        for known in basis:
            row = _minus(row, known, row.get(next(iter(known)), 0))
        if not row:
            continue
        pivot = next(iter(row))
        inverse = pow(row[pivot], -1, PRIME)
        row = {pivot: 1} | {key: value * inverse % PRIME for key, value in row.items() if key != pivot}
        basis = [_pivot_first(known, _minus(known, row, known.get(pivot, 0))) for known in basis] + [row]
    return basis


def _pivot_first(known: Row, row: Row) -> Row:
    pivot = next(iter(known))
    return {pivot: row[pivot]} | {key: value for key, value in row.items() if key != pivot}


def violations(world: Federation) -> list[str]:
    """What the center has that the protocol promises it cannot have; empty: all properties hold."""
    broken = [*_by_algebra(world), *_once(world), *_both_secrets(world), *_different_releases(world)]
    return broken + _closed_opened(world)


def _by_algebra(world: Federation) -> list[str]:
    """P1 and P8: sums of two honest sites or more, each with the same weight, and no two over different sites."""
    labels: dict[str, Callable[[Event, str], Hashable]] = {
        "question": lambda event, group: (event.site, event.question.inputs),
        "round": lambda event, group: (event.site, event.question.round),
        "model and kind": lambda event, group: (event.site, event.question.model),
    }
    broken = []
    for label, name_input in labels.items():
        for group, basis in revealed(world, name_input).items():
            seen: set[Hashable] = set()
            for row in basis:
                if len(row) < 2 or set(row.values()) != {1} or seen & set(row):
                    broken.append(f"P1: by {label}, {group} shows {sorted(map(str, row))}")
                seen |= set(row)
    return broken


def _once(world: Federation) -> list[str]:
    """P2: keys mask once, and sign one S."""
    masked = [event.own for event in world.events if event.site not in world.corrupt]
    broken = [f"P2: keys of {world.keys[own].name} masked twice" for own in set(masked) if masked.count(own) > 1]
    signed: dict[str, set[str]] = defaultdict(set)
    for own, survivors in world.confirmed:
        if world.keys[own].name not in world.corrupt:
            signed[own].add(digest(survivors))
    return broken + [f"P2: {world.keys[own].name} signed two S" for own, all_s in signed.items() if len(all_s) > 1]


def _both_secrets(world: Federation) -> list[str]:
    """P3: never both the mask key and a seed of one site in one sum."""
    secrets = reconstructed(world)
    both = {own for own, secret in secrets if secret == MASK} & {own for own, secret in secrets if secret != MASK}
    return [f"P3: both secrets of {world.keys[own].name}" for own in both]


def _different_releases(world: Federation) -> list[str]:
    """P4: all honest sites that release shares for one set of keys hold the same V and U."""
    by_keys: dict[str, set[str]] = defaultdict(set)
    for name, view, survivors in world.released:
        if name not in world.corrupt:
            by_keys[view.keys].add(digest(survivors))
    return [f"P4: shares of keys {keys[:8]} for different S" for keys, all_s in by_keys.items() if len(all_s) > 1]


def _closed_opened(world: Federation) -> list[str]:
    """P9: the seed of a group is known only where an S of honest sites opened the group."""
    opened = defaultdict(set)
    for name, view, survivors in world.released:
        if name not in world.corrupt:
            for group, sites in surviving(view, survivors.sites).items():
                opened[view.keys, group] |= set(sites)
    broken = []
    for own, secret in reconstructed(world):
        deal, group = world.deals[own], secret.removeprefix(SEED)
        if secret != MASK and world.keys[own].name not in opened[deal.keys, group]:
            broken.append(f"P9: the seed of {world.keys[own].name} for {group}")
    return broken
