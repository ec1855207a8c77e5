"""The five exchanges of a secure sum at a site: enrol, deal, answer, confirm, open.

Each takes the center's message and the session, which it changes, and returns the reply and a line for the audit log
that must be written before the reply leaves. `ProtocolError` is a refusal: one sentence, which may leave the site.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

from client.governance.secure_aggregation import checks
from client.governance.secure_aggregation.dealing import (
    deal_secrets,
    mask,
    new_sum,
    next_keys,
    open_envelopes,
    quorum_of,
    read_keys,
)
from client.governance.secure_aggregation.sum_session import Session, Site, Sum
from shared_models.secure_aggregation import wire
from shared_models.secure_aggregation.blame import Proof, share_to_json
from shared_models.secure_aggregation.layout import Contribution
from shared_models.secure_aggregation.membership import make_view, require, require_learned, surviving
from shared_models.secure_aggregation.parameters import Quorum
from shared_models.secure_aggregation.question import Question
from shared_models.secure_aggregation.secrets import MASK, SEED
from shared_models.secure_aggregation.signing import SIGNATURE_BYTES, digest, digest_all, read_signed, sign, signed
from shared_models.secure_aggregation.statements import MAX_SUM, Deal, Enrolment, Keys, Survivors, View
from shared_models.secure_aggregation.wire import Message, ProtocolError

Reply = tuple[Message, dict[str, Any]]
Contribute = Callable[[Collection[str]], Contribution]
"""The work of the handler that answers a question, given the groups that have enough members."""


def enrol(site: Site, session: Session, request: Message) -> Reply:
    """1. Says who this site is, once for an approval, and makes keys for a sum; forgets all older ones."""
    asked = wire.unpack(request, "run", "sum")
    run, number = wire.name(asked["run"]), wire.whole(asked["sum"], 1, MAX_SUM)
    audit = {"exchange": "enrol", "run": run, "sum": number}
    if before := checks.answered(session, number, "enrol", request):
        return before, audit | {"repeated": True}
    enrolment = site.record.enrol(signed(site.node_key, site.enrolment))
    session.run = run
    known = new_sum(site, session, number)
    session.forget_before(number)
    roster = [one.to_json() for one in site.record.signed_roster() or ()]
    reply = {"enrolment": enrolment.to_json(), "keys": known.own.to_json(), "roster": roster}
    return _answer(known, "enrol", request, reply), audit


def deal(site: Site, session: Session, request: Message) -> Reply:
    """2. Deals shares of this site's secrets to all sites that have keys for the sum."""
    asked = wire.unpack(request, "sum", "kind", "roster", "keys")
    number, kind = wire.whole(asked["sum"], 1, MAX_SUM), wire.name(asked["kind"])
    known = session.at(number)
    if before := checks.answered(session, number, "deal", request):
        return before, {"exchange": "deal", "sum": number, "repeated": True}
    checks.check_roster(site, [read_signed(entry, Enrolment) for entry in wire.listed(asked["roster"])])
    roster = _roster(site)
    keys = read_keys(site, known, roster, kind, asked["keys"])
    dealt = deal_secrets(site, known, roster, quorum_of(site, roster, kind), keys)
    audit = {"exchange": "deal", "sum": number, "roster": digest_all(roster), "sites": [one.name for one in keys]}
    return _answer(known, "deal", request, dealt), audit | {"verified": checks.is_verified(site, roster)}


def answer(site: Site, session: Session, request: Message, question: Question, contribute: Contribute) -> Reply:
    """3. Answers a question with masked numbers, once all checks are passed and the keys are marked as used.

    Args:
        site: This one.
        session: Of the run.
        request: The center's message.
        question: As it reached the handler that answers it.
        contribute: See `Contribute`; it is called once, after the checks.
    """
    asked = wire.unpack(request, "sum", "deals", "envelopes")
    number = wire.whole(asked["sum"], 1, MAX_SUM)
    known, whole_request = session.at(number), {**request, "question": wire.canonical(asdict(question))}
    if before := checks.answered(session, number, "answer", whole_request):
        return before, {"exchange": "answer", "sum": number, "repeated": True}
    roster = _roster(site)
    quorum = quorum_of(site, roster, question.kind)
    checks.check_question(site, known, question, roster, quorum)
    deals = [read_signed(entry, Deal) for entry in wire.listed(asked["deals"])]
    checks.check_deals(site, known, deals, roster, quorum)
    complaints = open_envelopes(site, known, [one.statement for one in deals], wire.mapped(asked["envelopes"]))
    present = {one.statement.name: digest(one.statement) for one in deals}
    view = make_view(known.keys, roster, quorum, question, present)
    require(bool(view.groups), "no group of this message has enough members")
    checks.mark_used(site, number, question, [group for group, sites in view.groups.items() if site.name in sites])
    session.forget_before(number)
    contribution = contribute(view.groups)
    known.question, known.view = question, replace(view, layout=contribution.layout.hash(site.terms))
    blocks = mask(site, known, known.view, contribution)
    reply = {
        "signature": sign(site.node_key, known.view),
        "complaints": complaints,
        "layout": contribution.layout.to_json(),
        "keys": next_keys(site, session, number + 1),
    }
    audit = _audit("answer", known) | {"complaints": complaints, "altered": contribution.altered(site.terms)}
    return _answer(known, "answer", whole_request, reply, blocks), audit


def confirm(site: Site, session: Session, request: Message) -> Reply:
    """4. Signs over which sites the sum is opened, and deals for the next one."""
    asked = wire.unpack(request, "sum", "survivors", "signatures", "proofs", "next")
    number, survivors = wire.whole(asked["sum"], 1, MAX_SUM), wire.names(asked["survivors"])
    known = session.at(number)
    if before := checks.answered(session, number, "confirm", request):
        return before, {"exchange": "confirm", "sum": number, "repeated": True}
    view, roster = _view(known), _roster(site)
    checks.check_survivors(site, view, survivors, _signatures(asked["signatures"]), roster)
    statement = Survivors(digest(view), survivors, tuple(surviving(view, survivors)))
    require(bool(statement.groups), "no group of this message has enough survivors")
    require_learned(view, statement.groups)
    ahead = asked["next"] and _read_next(site, session, number + 1, roster, asked["next"])
    cheats = _keep_proofs(site, roster, asked["proofs"])
    checks.sign_once(site, number, known, statement)
    known.survivors = statement
    nothing: dict[str, Any] = {"deal": None, "envelopes": {}}
    dealt = deal_secrets(site, *ahead) if ahead else nothing
    reply = {"signature": sign(site.node_key, statement), **dealt}
    return _answer(known, "confirm", request, reply), _audit("confirm", known) | {"cheats": cheats}


def open_sum(site: Site, session: Session, request: Message) -> Reply:
    """5. Gives the shares that open the sum over the survivors, and nothing else."""
    asked = wire.unpack(request, "sum", "signatures")
    known = session.at(wire.whole(asked["sum"], 1, MAX_SUM))
    view, survivors, roster = _view(known), known.survivors, _roster(site)
    if survivors is None:
        msg = "this site has not signed over which sites the sum is"
        raise ProtocolError(msg)
    signers = checks.check_signers(view, survivors, _signatures(asked["signatures"]), roster)
    assert known.question is not None
    site.record.settle(known.question)
    released = {
        name: {secret: share_to_json(held[secret]) for secret in sorted(released_secrets(view, survivors, name))}
        for name, held in known.shares.items()
    }
    audit = _audit("open", known) | {"signers": list(signers), "verified": checks.is_verified(site, roster)}
    return wire.pack({"shares": released}), audit


def released_secrets(view: View, survivors: Survivors, name: str) -> set[str]:
    """Which secrets of a present site are opened: the seeds of a survivor, the mask key of one that dropped out."""
    if name not in survivors.sites:
        return {MASK}
    return {f"{SEED}{group}" for group in survivors.groups if name in view.groups[group]}


def _answer(
    known: Sum, exchange: str, request: Message, reply: Mapping[str, Any], blocks: Mapping[str, bytes] | None = None
) -> Message:
    message = wire.pack(reply, blocks)
    known.replies[exchange] = (wire.fingerprint(request), message)
    return message


def _roster(site: Site) -> tuple[Enrolment, ...]:
    roster = site.record.roster()
    if roster is None:
        msg = "this site does not know the other sites of this study yet"
        raise ProtocolError(msg)
    return roster


def _view(known: Sum) -> View:
    if known.view is None:
        msg = "this site has not answered the question of this sum"
        raise ProtocolError(msg)
    return known.view


def _signatures(value: object) -> dict[str, str]:
    return {name: wire.hexadecimal(one, *SIGNATURE_BYTES) for name, one in wire.mapped(value).items()}


def _read_next(
    site: Site, session: Session, number: int, roster: Sequence[Enrolment], value: object
) -> tuple[Sum, Sequence[Enrolment], Quorum, list[Keys]]:
    asked = wire.fields(value, "kind", "keys")
    known, kind = session.at(number), wire.name(asked["kind"])
    require(not known.deal, "this site has dealt for the next sum already")
    return known, roster, quorum_of(site, roster, kind), read_keys(site, known, roster, kind, asked["keys"])


def _keep_proofs(site: Site, roster: Sequence[Enrolment], value: object) -> list[str]:
    """Keeps who is proved a cheat."""
    node_keys = {one.name: one.node_key for one in roster}
    proofs = [Proof.read(entry) for entry in wire.listed(value)]
    held = all(proof.holds(site.terms.approval, node_keys) for proof in proofs)
    require(held, "a proof against a site proves nothing")
    cheats = sorted({proof.keys.statement.name for proof in proofs})
    for name in cheats:
        site.record.add_cheat(name)
    return cheats


def _audit(exchange: str, known: Sum) -> dict[str, Any]:
    """What the audit log says of a sum."""
    view, question, survivors = known.view, known.question, known.survivors
    assert view is not None
    assert question is not None
    facts = {
        "exchange": exchange,
        **{"sum": view.sum, "kind": view.message, "round": view.round, "attempt": view.attempt},
        **{"view": digest(view), "inputs": question.inputs, "roster": view.roster},
        **{"present": sorted(view.present), "groups": {group: list(sites) for group, sites in view.groups.items()}},
    }
    return facts | ({"survivors": list(survivors.sites), "opened": list(survivors.groups)} if survivors else {})
