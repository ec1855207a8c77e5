"""The way back from masked blocks to their sum: shares to secrets, secrets to masks, and proof against a cheat."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import reduce

from server.study.secure_aggregation.replies import Masked
from shared_models.secure_aggregation.blame import Proof, Share, fits, opened
from shared_models.secure_aggregation.encoding import Block
from shared_models.secure_aggregation.membership import surviving
from shared_models.secure_aggregation.secrets import (
    MASK,
    SEED,
    agree,
    is_secret_of,
    pair_key,
    self_key,
    sign_between,
)
from shared_models.secure_aggregation.signing import Signed, digest
from shared_models.secure_aggregation.statements import Deal, Keys, Survivors, View

Held = Mapping[str, Mapping[str, Mapping[str, Share]]]
"""By holder, dealer and secret."""


class CheatError(Exception):
    """A dealer is proved to have dealt wrongly."""

    def __init__(self, proof: Proof) -> None:
        super().__init__(proof.keys.statement.name)
        self.proof = proof


class SharesError(Exception):
    """Too few shares of a secret came back."""


def needed(view: View, survivors: Survivors) -> dict[str, list[str]]:
    """By present site, the secrets that open a sum."""
    groups = surviving(view, survivors.sites)
    secrets = {
        name: [f"{SEED}{group}" for group, sites in groups.items() if name in sites] if name in survivors.sites else []
        for name in view.present
    }
    for group in groups:  # of one that dropped out, where a survivor has masked for it
        for name in view.groups[group]:
            if name not in survivors.sites:
                secrets[name] = [MASK]
    return secrets


def recover(
    view: View,
    survivors: Survivors,
    keys: Mapping[str, Signed[Keys]],
    deals: Mapping[str, Signed[Deal]],
    held: Held,
) -> dict[str, dict[str, bytes]]:
    """The secrets that open a sum, by site and name.

    Raises:
        CheatError: If shares are as a dealer signed them, and do not open what it promised.
        SharesError: If there are too few shares of a secret.
    """
    recovered: dict[str, dict[str, bytes]] = {}
    for name, secrets in needed(view, survivors).items():
        deal = deals[name].statement
        for secret in secrets:
            given = {holder: shares[name][secret] for holder, shares in held.items() if secret in shares.get(name, {})}
            shares = {holder: share for holder, share in given.items() if fits(deal, holder, secret, share)}
            if len(shares) < deal.threshold:
                msg = f"{len(shares)} shares of a secret of {name} came back, {deal.threshold} are needed"
                raise SharesError(msg)
            value = opened(deal, shares)
            if value is None or not is_secret_of(keys[name].statement, secret, value):
                raise CheatError(Proof(keys[name], deals[name], secret, shares))
            recovered.setdefault(name, {})[secret] = value
    return recovered


def open_blocks(
    view: View,
    survivors: Survivors,
    keys: Mapping[str, Signed[Keys]],
    masked: Mapping[str, Masked],
    secrets: Mapping[str, Mapping[str, bytes]],
) -> dict[str, Block]:
    """The sums of the groups that are opened, without masks.

    Args:
        view: V.
        survivors: S.
        keys: K by site.
        masked: Answers by site, of which one block at a time is in memory.
        secrets: From `recover`.
    """
    sums: dict[str, Block] = {}
    hashed = digest(view)
    for group, sites in surviving(view, survivors.sites).items():
        total = reduce(Block.plus, (masked[name].block(group) for name in sites))
        for name in sites:
            total = total.plus_mask(self_key(secrets[name][f"{SEED}{group}"], hashed, name, group), -1)
        for name in set(view.groups[group]) - set(sites):
            total = _without_pairs(total, secrets[name][MASK], name, sites, keys, hashed, group)
        sums[group] = total
    return sums


def _without_pairs(
    total: Block,
    private: bytes,
    name: str,
    sites: Sequence[str],
    keys: Mapping[str, Signed[Keys]],
    hashed: str,
    group: str,
) -> Block:
    """Takes away the masks that the survivors share with a site that dropped out."""
    for other in sites:
        key = pair_key(agree(private, keys[other].statement.mask_key), hashed, other, name, group)
        total = total.plus_mask(key, -sign_between(other, name))
    return total
