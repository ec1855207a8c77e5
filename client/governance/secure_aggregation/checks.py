"""Checks C1 to C9 of secure aggregation: what a site never takes from the center alone."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import chain

from client.governance.secure_aggregation.sum_session import Session, Site, Sum
from shared_models.secure_aggregation import wire
from shared_models.secure_aggregation.groups import participants
from shared_models.secure_aggregation.membership import (
    Dealing,
    check_enrolment,
    check_member_keys,
    distinct,
    require,
    surviving,
)
from shared_models.secure_aggregation.parameters import Quorum
from shared_models.secure_aggregation.question import Question
from shared_models.secure_aggregation.signing import Signed, digest, digest_all, verify
from shared_models.secure_aggregation.statements import Deal, Enrolment, Keys, Survivors, View
from shared_models.secure_aggregation.wire import Message


def check_roster(site: Site, roster: Sequence[Signed[Enrolment]]) -> None:
    """C1: the sites of this approval, each once, as they signed themselves and as this site knows them; for good."""
    sites = [signed.statement for signed in roster]
    names, keys = [one.name for one in sites], {one.name: one.node_key for one in sites}
    require(len(set(names)) == len(names) and distinct(keys.values()), "a site appears twice in the roster")
    require(site.enrolment in sites, "this site is not in the roster as it enrolled")
    known = site.record.roster()
    if known is not None:
        require(digest_all(known) == digest_all(sites), "the roster is not the one that this approval has")
        return
    for signed in roster:
        check_enrolment(signed, site.terms.approval)
        one = signed.statement
        partner = site.partners.get(one.name)
        require(partner in (None, one.node_key), "a site in the roster has another key than policy.partners says")
        unknown = site.verified_only and partner is None and one.name != site.name
        require(not unknown, "a site in the roster is not one of policy.partners, which is required here")
    site.record.fix_roster(roster, site.name)


def is_verified(site: Site, roster: Iterable[Enrolment]) -> bool:
    """Whether every other site's key came from the site itself."""
    return all(site.partners.get(one.name) == one.node_key for one in roster if one.name != site.name)


def check_keys(own: Keys, keys: Sequence[Signed[Keys]], roster: Sequence[Enrolment], kind: str, quorum: Quorum) -> None:
    """C2: fresh keys for one sum, of enough sites that take part in a kind, each signed, and this site's as sent."""
    sites = {one.name: one for one in roster}
    statements = [signed.statement for signed in keys]
    names = [one.name for one in statements]
    taking_part = participants(kind, roster)
    require(len(set(names)) == len(names), "a site appears twice among the keys of a sum")
    require(set(names) <= set(taking_part), "the keys of a sum are of a site that takes no part in it")
    require(len(names) >= quorum.threshold, f"{len(names)} sites have keys, at least {quorum.threshold} are needed")
    require(own in statements, "this site's keys are not among those of the sum as it sent them")
    require(
        distinct(chain.from_iterable((k.mask_key, k.share_key) for k in statements)), "a key appears twice in a sum"
    )
    for signed in keys:
        check_member_keys(signed, sites[signed.statement.name], (own.approval, own.run, own.sum))


def check_question(site: Site, known: Sum, question: Question, roster: Sequence[Enrolment], quorum: Quorum) -> None:
    """C3: a question within what was approved, over the sites that its kind has; `mark_used` counts it."""
    require(known.deal != "", "this site has not dealt for this sum")
    require(0 <= question.round <= site.terms.rounds + 1, "a round that the study does not have")
    require(1 <= question.attempt <= site.terms.attempts, "an attempt beyond those that were approved")
    require(quorum.threshold == known.threshold, "the secrets of this sum were dealt for another kind of message")
    taking_part = set(participants(question.kind, roster))
    require({one.name for one in known.keys} <= taking_part, "a site has keys that takes no part in this message")


def check_deals(
    site: Site, known: Sum, deals: Sequence[Signed[Deal]], roster: Sequence[Enrolment], quorum: Quorum
) -> None:
    """C4: enough sites dealt, this one as it did, each signed for these keys and this roster."""
    names = [signed.statement.name for signed in deals]
    require(len(set(names)) == len(names), "a site dealt twice in a sum")
    require(len(names) >= quorum.threshold, f"{len(names)} sites dealt, at least {quorum.threshold} are needed")
    require(site.name in names, "this site's deal is not among those of the sum")
    dealing = Dealing.of(known.keys, roster, quorum.threshold)
    for signed in deals:
        dealing.check(signed)
        own = signed.statement.name == site.name
        require(not own or digest(signed.statement) == known.deal, "this site's deal is not as it sent it")


def mark_used(site: Site, number: int, question: Question, blocks: Sequence[str]) -> None:
    """C5: the keys of a sum serve one question; on the disk before anything is masked."""
    site.record.mark_used(number, question, blocks, site.terms.attempts)


def check_survivors(
    site: Site, view: View, survivors: Collection[str], signatures: Mapping[str, str], roster: Sequence[Enrolment]
) -> None:
    """C6: enough of the sites that were present, this one among them, and each masked for the very same view."""
    node_keys = {one.name: one.node_key for one in roster}
    require(site.name in survivors, "this site is not among those that a sum is over")
    require(set(survivors) <= set(view.present), "a sum is over a site that was not present")
    require(len(survivors) >= view.threshold, f"a sum is over {len(survivors)} sites, {view.threshold} are needed")
    for name in survivors:
        signed = verify(node_keys[name], view, signatures.get(name, ""))
        require(signed, "a site that a sum is over did not see what this site saw")


def sign_once(site: Site, number: int, known: Sum, survivors: Survivors) -> None:
    """C7: one S for the keys of a sum, one U for a question; on the disk before it is signed."""
    assert known.view is not None
    assert known.question is not None
    opened = surviving(known.view, survivors.sites)
    sets = site.terms.survivor_sets or known.view.sites
    site.record.sign_once(number, survivors, known.question, opened, sets)


def check_signers(
    view: View, survivors: Survivors, signatures: Mapping[str, str], roster: Sequence[Enrolment]
) -> tuple[str, ...]:
    """C8: a quorum of the survivors signed the same as this site; their names."""
    node_keys = {one.name: one.node_key for one in roster}
    candidates = [name for name in sorted(signatures) if name in survivors.sites]
    signers = tuple(name for name in candidates if verify(node_keys[name], survivors, signatures[name]))
    require(len(signers) >= view.threshold, f"{len(signers)} sites agree on the sum, {view.threshold} are needed")
    return signers


def answered(session: Session, number: int, exchange: str, request: Message) -> Message | None:
    """C9: what was answered to the same request; to another one of the same exchange there is no second answer."""
    if number not in session.sums or exchange not in session.sums[number].replies:
        return None
    asked, reply = session.sums[number].replies[exchange]
    require(asked == wire.fingerprint(request), "another request of this exchange was answered already")
    return reply
