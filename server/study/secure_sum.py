"""A sum over sites of which the center sees nothing but the sum: the center's side of `shared_models/secure_sum.py`.

Four exchanges instead of one: keys, shares of secrets, masked numbers, and the shares that open their sum. A site that
drops out on the way is left out of it; when too few are left there is no sum, and the study asks again.
"""

from __future__ import annotations

import logging
import secrets
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import reduce
from typing import Any, TypeVar

from flwr.app import RecordDict
from flwr.serverapp import Grid

from server.study.exchange import Answer, ask
from shared_models.bounded_json import parse_json
from shared_models.messages import (
    Arrays,
    JoinSum,
    KeysReply,
    KeysRequest,
    MaskedReply,
    ModelRequest,
    Payload,
    PrepareRequest,
    Reply,
    Request,
    SharesRequest,
    TrainRequest,
    UnmaskRequest,
)
from shared_models.secure_sum import (
    LOSS,
    MIN_SITES,
    PATIENTS,
    TRAIN,
    Member,
    Vector,
    group_of_parameter,
    least_survivors,
    pack_members,
    pairwise_key,
    sign_between,
    unflatten,
    unpack_members,
)
from shared_models.secure_sum_choice import uses_secure_sums
from shared_models.study_settings import StudySettings

log = logging.getLogger("server")
P = TypeVar("P", bound=Payload)
R = TypeVar("R", bound=Reply)
T = TypeVar("T")
U = TypeVar("U")


class _NoSumError(Exception):
    """Too few sites are left for a sum, or it cannot be opened."""


def exchange(
    grid: Grid, sites: Sequence[str], request: Request[R], config: StudySettings, group: str = ""
) -> tuple[list[Answer[R]], list[Answer[R]]]:
    """Asks each site, and returns the answers, and what of them may be added up.

    That is each answer, or in a study with secure sums one answer that stands for its `members`: weights are their
    mean, statistics their sum. There is none where too few sites are left.
    """
    if not uses_secure_sums(config):
        answers = ask(grid, sites, request.KIND, request.pack(), request.reply_kind.unpack, config, group)
        return answers, answers
    # before round 1 and in a round, the study itself asks again
    for _ in range(1 if isinstance(request, PrepareRequest | TrainRequest) else config.round_attempts):
        found: dict[str, Answer[R]] = {
            site: Answer(site, None, "secure aggregation failed: too few participants") for site in sites
        }
        try:
            together = _sum(grid, found, request, config, group)
            return list(found.values()), [together]
        except _NoSumError as error:
            log.warning("%s: no secure sum: %s", request.KIND, error)
    return list(found.values()), []


def _sum(grid: Grid, found: dict[str, Answer[R]], request: Request[R], config: StudySettings, group: str) -> Answer[R]:
    """The sum as one answer; each site's own answer, or why there is none, goes to `found`."""
    session = secrets.token_hex(16)

    def ask_for(names: Collection[str], what: Request[P]) -> list[Answer[P]]:
        return ask(grid, sorted(names), what.KIND, what.pack(), what.reply_kind.unpack, config)

    keys = ask_for(found, KeysRequest(session=session, purpose=request.KIND))
    offers = _usable(keys, found, _member)
    _require(offers, MIN_SITES)
    members = {name: Member(name, m.mask_key, m.share_key, m.adds, m.signature) for name, m in offers.items()}
    least = least_survivors(len(members))
    announced = pack_members(list(members.values()))
    shares = ask_for(members, SharesRequest(session=session, members=announced))
    envelopes = _usable(shares, found, lambda reply: reply.envelopes)
    _require(envelopes, least)
    mail = {f"{by}>{to}": data for by, sent in envelopes.items() for to, data in sent.items() if to in envelopes}
    content = JoinSum(session=session, envelopes=mail).pack_with(request)
    answers = ask(grid, sorted(envelopes), request.KIND, content, _unpack_masked(request), config, group)
    vectors, layout = _alike(_usable(answers, found, lambda reply: reply), found)
    _require(vectors, least)
    opened = ask_for(vectors, UnmaskRequest(session=session, survivors=tuple(sorted(vectors))))
    secret_shares = _usable(opened, found, lambda reply: reply.shares)
    _require(secret_shares, least)
    total = _unmasked(vectors, {name: _secret(name, secret_shares, least) for name in envelopes}, members)
    return _opened(total, layout, request, tuple(vectors))


def _unpack_masked(request: Request[R]) -> Callable[[RecordDict], MaskedReply[R]]:
    return lambda content: MaskedReply.unpack(content, request.reply_kind)


def _usable(answers: Sequence[Answer[U]], found: dict[str, Answer[R]], read: Callable[[U], T]) -> dict[str, T]:
    """What can be used of the answers by site; why the others cannot goes to `found`."""
    values: dict[str, T] = {}
    for answer in answers:
        if answer.reply is None:
            found[answer.site] = Answer(answer.site, None, answer.problem)
            continue
        try:
            values[answer.site] = read(answer.reply)
        except ValueError as error:
            found[answer.site] = Answer(answer.site, None, f"its part of a secure sum cannot be read: {error}")
    return values


def _member(reply: KeysReply) -> Member:
    (member,) = unpack_members(reply.member)
    return member


def _alike(
    masked: Mapping[str, MaskedReply[R]], found: dict[str, Answer[R]]
) -> tuple[dict[str, Vector], dict[str, Any]]:
    """The vectors whose numbers stand for the same things, and for which; another site's program differs."""
    vectors: dict[str, Vector] = {}
    for site, reply in masked.items():
        found[site] = Answer(site, reply.shown)
        try:
            vectors[site] = Vector.unpack(reply.masked)
        except ValueError as error:
            found[site] = Answer(site, None, f"its part of a secure sum cannot be read: {error}")
    forms = {site: (masked[site].layout, len(own.weights), len(own.statistics)) for site, own in vectors.items()}
    usual = Counter(forms.values()).most_common(1)[0][0] if forms else ("{}", 0, 0)
    for site in [site for site, form in forms.items() if form != usual]:
        found[site] = Answer(site, None, "its part of a secure sum is not like the others': versions differ")
    try:
        return {site: own for site, own in vectors.items() if forms[site] == usual}, dict(parse_json(usual[0]))
    except (TypeError, ValueError) as error:
        msg = f"the layout of the sum cannot be read: {type(error).__name__}"
        raise _NoSumError(msg) from None


def _secret(name: str, shares: Mapping[str, Mapping[str, bytes]], least: int) -> bytes:
    """A member's secret: the seed of its own mask if it is in the sum, else the key of those it shares."""
    from flwr.common.secure_aggregation.crypto.shamir import combine_shares

    own = [given[name] for given in shares.values() if name in given]
    if len(own) < least:
        msg = f"{len(own)} shares of {name}'s secret, {least} are needed"
        raise _NoSumError(msg)
    try:
        return combine_shares(own[:least])
    except ValueError as error:
        msg = f"the shares of {name}'s secret do not fit together: {error}"
        raise _NoSumError(msg) from None


def _unmasked(vectors: Mapping[str, Vector], secret_of: Mapping[str, bytes], members: Mapping[str, Member]) -> Vector:
    """The sum of the vectors without the masks that are left in it."""
    total = reduce(Vector.plus, vectors.values())
    for name, secret in secret_of.items():
        if name in vectors:
            total = total.plus_mask(secret, -1)
            continue
        for survivor in vectors:
            key = pairwise_key(secret, members[survivor].mask_key)
            total = total.plus_mask(key, -sign_between(survivor, name))
    return total


def _opened(
    total: Vector, layout: Mapping[str, Sequence[int]], request: Request[R], members: tuple[str, ...]
) -> Answer[R]:
    """A sum as a site's reply would be: the mean of the weights, each over those who have a part in it."""
    weights, statistics = total.real()
    sent = request.model if isinstance(request, ModelRequest) and len(weights) else {}
    try:
        results = unflatten(statistics, layout)
        sums = unflatten(weights, {name: array.shape for name, array in sent.items()})
        patients = {name.partition(".")[2]: float(results.pop(name)) for name in list(results) if _counts(name)}
        values: dict[str, Any] = {}
        fields: dict[str, Arrays] = {}
        if sums:
            behind = {name: patients[group_of_parameter(name)] for name in sums}
            fields["model"] = {name: _mean(array, behind[name], sent[name]) for name, array in sums.items()}
            values = {"patients": round(patients[TRAIN]), "loss": float(results.pop(LOSS)) / max(patients[TRAIN], 1.0)}
        for name, array in results.items():
            field, _, key = name.partition(".")
            fields.setdefault(field, {})[key] = array
        reply = request.reply_kind.of_sum(fields, **values)
    except (KeyError, TypeError, ValueError) as error:
        raise _NoSumError(str(error)) from None
    by_modality = {name: count for name, count in patients.items() if name != TRAIN}
    return Answer(f"the sum of {', '.join(members)}", reply, "", members, by_modality)


def _mean(total: Any, patients: float, sent: Any) -> Any:
    """The mean of a weight over the patients behind it; where there are none, as it was."""
    return (total / patients).astype(sent.dtype) if patients > 0 else sent


def _counts(name: str) -> bool:
    return name.startswith(f"{PATIENTS}.")


def _require(there: Mapping[str, Any], least: int) -> None:
    if len(there) < least:
        msg = f"{len(there)} sites are there ({', '.join(sorted(there)) or 'none'}), at least {least} are needed"
        raise _NoSumError(msg)
