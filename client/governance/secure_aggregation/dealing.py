"""A site's secrets of one sum: making them, dealing shares of them, keeping the shares of others, and masking."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

from client.governance.secure_aggregation import checks
from client.governance.secure_aggregation.sum_session import Session, Site, Sum
from shared_models.secure_aggregation import wire
from shared_models.secure_aggregation.blame import Share, fits, read_share, share_to_json
from shared_models.secure_aggregation.encoding import Block
from shared_models.secure_aggregation.groups import all_groups, participants
from shared_models.secure_aggregation.layout import Contribution
from shared_models.secure_aggregation.membership import require
from shared_models.secure_aggregation.parameters import Quorum
from shared_models.secure_aggregation.secrets import (
    MASK,
    SALT_BYTES,
    SEED,
    agree,
    commitment,
    new_private_key,
    new_seed,
    pair_key,
    public_of,
    seal,
    seed_hash,
    self_key,
    shared_secrets,
    sign_between,
    split,
    unseal,
)
from shared_models.secure_aggregation.signing import Signed, digest, digest_all, read_signed, signed
from shared_models.secure_aggregation.statements import Deal, Enrolment, Keys, View
from shared_models.secure_aggregation.wire import ProtocolError

MAX_ENVELOPE_BYTES = 2**20


def quorum_of(site: Site, roster: Sequence[Enrolment], kind: str) -> Quorum:
    """What holds for a kind of message in this approval.

    Raises:
        ProtocolError: If too few sites take part in it.
    """
    try:
        return site.terms.quorum(len(participants(kind, roster)))
    except ValueError as error:
        raise ProtocolError(str(error)) from None


def new_sum(site: Site, session: Session, number: int) -> Sum:
    """Fresh keys and seeds, under a number that this site never used in this approval."""
    site.record.begin_sum(number)
    mask_key, share_key = new_private_key(), new_private_key()
    seeds = {group: new_seed() for group in sorted(all_groups(site.facts))}
    hashes = {group: seed_hash(seed) for group, seed in seeds.items()}
    public = public_of(mask_key), public_of(share_key)
    keys = Keys(site.terms.approval, session.run, number, site.name, *public, hashes)
    session.sums[number] = Sum(signed(site.node_key, keys), mask_key, share_key, seeds)
    return session.sums[number]


def next_keys(site: Site, session: Session, number: int) -> dict[str, Any] | None:
    """Keys for the sum after this one; none, where another process has begun it."""
    try:
        return new_sum(site, session, number).own.to_json()
    except ProtocolError:
        return None


def read_keys(site: Site, known: Sum, roster: Sequence[Enrolment], kind: str, value: object) -> list[Keys]:
    """All K of a sum, checked, in the order of their sites' names."""
    keys: list[Signed[Keys]] = [read_signed(entry, Keys) for entry in wire.listed(value)]
    checks.check_keys(known.own.statement, keys, roster, kind, quorum_of(site, roster, kind))
    return sorted((one.statement for one in keys), key=lambda one: one.name)


def deal_secrets(
    site: Site, known: Sum, roster: Sequence[Enrolment], quorum: Quorum, keys: list[Keys]
) -> dict[str, Any]:
    """Splits this site's secrets and seals each site's shares; that it did is on the disk before."""
    own, all_keys = known.own.statement, digest_all(keys)
    site.record.mark_dealt(own.sum, all_keys)
    dealt: dict[str, dict[str, Share]] = {one.name: {} for one in keys}
    for secret in sorted(shared_secrets(own)):
        value = known.mask_key if secret == MASK else known.seeds[secret.removeprefix(SEED)]
        for one, share in zip(keys, split(value, quorum.threshold, len(keys)), strict=True):
            dealt[one.name][secret] = (os.urandom(SALT_BYTES), share)
    envelopes = {}
    for one in keys:
        if one.name != site.name:
            content = wire.canonical({secret: share_to_json(share) for secret, share in dealt[one.name].items()})
            envelopes[one.name] = seal(known.share_key, one.share_key, content, all_keys, site.name, one.name)
    statement = Deal(
        roster=digest_all(roster),
        keys=all_keys,
        own_keys=digest(own),
        name=site.name,
        threshold=quorum.threshold,
        envelopes={name: wire.hashed(envelope) for name, envelope in envelopes.items()},
        shares={name: {s: commitment(*share) for s, share in shares.items()} for name, shares in dealt.items()},
    )
    known.keys, known.threshold, known.deal = keys, quorum.threshold, digest(statement)
    known.shares = {site.name: dealt[site.name]}
    sent = {name: envelope.hex() for name, envelope in envelopes.items()}
    return {"deal": signed(site.node_key, statement).to_json(), "envelopes": sent}


def open_envelopes(site: Site, known: Sum, deals: Sequence[Deal], envelopes: Mapping[str, Any]) -> list[str]:
    """Keeps the shares that others sent here.

    Returns:
        Names of those whose envelope is the one that they signed, and holds no shares as they signed them.

    Raises:
        ProtocolError: If an envelope is not the one that was signed, which is the center's doing.
    """
    others = [one for one in deals if one.name != site.name]
    require(set(envelopes) == {one.name for one in others}, "the envelopes are not those of the deals")
    complaints, held = [], {site.name: known.shares[site.name]}
    for one in others:
        envelope = bytes.fromhex(wire.hexadecimal(envelopes[one.name], 0, MAX_ENVELOPE_BYTES))
        require(wire.hashed(envelope) == one.envelopes[site.name], "the center changed an envelope")
        try:
            held[one.name] = _unsealed(site, known, one, envelope)
        except ProtocolError:
            complaints.append(one.name)
    known.shares = held
    return sorted(complaints)


def _unsealed(site: Site, known: Sum, deal: Deal, envelope: bytes) -> dict[str, Share]:
    keys = next(one for one in known.keys if one.name == deal.name)
    content = unseal(known.share_key, keys.share_key, envelope, deal.keys, deal.name, site.name)
    shares = {secret: read_share(share) for secret, share in wire.mapped(wire.parse(content)).items()}
    require(set(shares) == shared_secrets(keys), "an envelope holds shares of other secrets")
    require(all(fits(deal, site.name, *share) for share in shares.items()), "an envelope holds other shares")
    return shares


def mask(site: Site, known: Sum, view: View, contribution: Contribution) -> dict[str, bytes]:
    """This site's block of each group that it adds to, under a mask of its own and one for each other member."""
    hashed, blocks = digest(view), {}
    mask_keys = {one.name: one.mask_key for one in known.keys}
    agreed = {name: agree(known.mask_key, mask_keys[name]) for name in view.present if name != site.name}
    for group, sites in view.groups.items():
        if site.name not in sites:
            continue
        block: Block = contribution.block(group, site.terms)
        block = block.plus_mask(self_key(known.seeds[group], hashed, site.name, group))
        for name in sites:
            if name != site.name:
                key = pair_key(agreed[name], hashed, site.name, name, group)
                block = block.plus_mask(key, sign_between(site.name, name))
        blocks[group] = block.pack()
    return blocks
