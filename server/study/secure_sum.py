"""A sum over sites of which the center sees nothing but the sum: the center's side of `shared_models/secure_sum.py`.

Four exchanges instead of one: keys, shares of secrets, masked numbers, and the shares that open their sum. A site that
drops out on the way is left out of it; when too few are left there is no sum, and the study asks again.
"""

from __future__ import annotations

import json
import logging
import secrets
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import reduce
from typing import Any, TypeVar

from flwr.app import ConfigRecord, RecordDict
from flwr.serverapp import Grid

from server.study.exchange import Answer, ask
from shared_models.bounded_json import parse_json
from shared_models.messages import (
    KEYS,
    MASKED,
    MODEL,
    PREPARE,
    REQUEST,
    SHARES,
    UNMASK,
    Arrays,
    reply,
    request,
    unpack_arrays,
)
from shared_models.messages import TRAIN as TRAIN_MESSAGE
from shared_models.secure_sum import (
    ENVELOPES,
    LAYOUT,
    LOSS,
    MEMBERS,
    MIN_SITES,
    PATIENTS,
    SHARES_OF,
    STATISTICS,
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
T = TypeVar("T")
MAX_AXES, MAX_LENGTH = 4, 10**6


class _NoSumError(Exception):
    """Too few sites are left for a sum, or it cannot be opened."""


def exchange(
    grid: Grid, sites: Sequence[str], message_type: str, content: RecordDict, config: StudySettings, group: str = ""
) -> tuple[list[Answer], list[Answer]]:
    """Asks each site, and returns the answers, and what of them may be added up.

    That is each answer, or in a study with secure sums one answer that stands for its `members`: weights are their
    mean, statistics their sum. There is none where too few sites are left.
    """
    if not uses_secure_sums(config):
        answers = ask(grid, sites, message_type, content, config, group)
        return answers, answers
    # before round 1 and in a round, the study itself asks again
    for _ in range(1 if message_type in (PREPARE, TRAIN_MESSAGE) else config.round_attempts):
        found = {site: Answer(site, None, "left out of a secure sum that came to nothing") for site in sites}
        try:
            together = _sum(grid, found, message_type, content, config, group)
            return list(found.values()), [together]
        except _NoSumError as error:
            log.warning("%s: no secure sum: %s", message_type, error)
    return list(found.values()), []


def _sum(
    grid: Grid, found: dict[str, Answer], message_type: str, content: RecordDict, config: StudySettings, group: str
) -> Answer:
    """The sum as one answer; each site's own answer, or why there is none, goes to `found`."""
    session = secrets.token_hex(16)

    def ask_for(names: Collection[str], kind: str, read: Callable[[RecordDict], T], what: RecordDict) -> dict[str, T]:
        return _read(ask(grid, sorted(names), kind, what, config), read, found)

    offers = ask_for(found, KEYS, _member, request(session=session, purpose=message_type))
    _require(offers, MIN_SITES)
    members = {name: Member(name, m.mask_key, m.share_key, m.adds, m.signature) for name, m in offers.items()}
    least = least_survivors(len(members))
    announced = pack_members(list(members.values()))
    envelopes = ask_for(members, SHARES, _envelopes, request(session=session, members=announced))
    _require(envelopes, least)
    answers = ask(grid, sorted(envelopes), message_type, _with(content, session, envelopes), config, group)
    found |= {answer.site: answer for answer in answers}
    vectors, layout = _alike(_read(answers, _vector, found), found)
    _require(vectors, least)
    survivors = json.dumps(sorted(vectors))
    shares = ask_for(vectors, UNMASK, _shares, request(session=session, survivors=survivors))
    _require(shares, least)
    total = _unmasked(vectors, {name: _secret(name, shares, least) for name in envelopes}, members)
    sent = unpack_arrays(content.array_records[MODEL])
    return Answer(f"the sum of {', '.join(vectors)}", _opened(total, _shapes(layout), sent), members=tuple(vectors))


def _with(content: RecordDict, session: str, envelopes: Mapping[str, Mapping[str, bytes]]) -> RecordDict:
    """The request of a sum: with all envelopes that its members have for each other."""
    mail = {f"{by}>{to}": data for by, sent in envelopes.items() for to, data in sent.items() if to in envelopes}
    plain = ConfigRecord({**content.config_records[REQUEST], "session": session})
    return RecordDict({**content, REQUEST: plain, ENVELOPES: ConfigRecord(mail)})


def _read(answers: Sequence[Answer], read: Callable[[RecordDict], T], found: dict[str, Answer]) -> dict[str, T]:
    """What can be read of the answers by site; why the others cannot goes to `found`."""
    values: dict[str, T] = {}
    for answer in answers:
        if answer.content is None:
            found[answer.site] = answer
            continue
        try:
            values[answer.site] = read(answer.content)
        except (KeyError, TypeError, ValueError) as error:
            found[answer.site] = Answer(answer.site, None, f"its part of a secure sum cannot be read: {error}")
    return values


def _member(content: RecordDict) -> Member:
    (member,) = unpack_members(str(content.config_records[MEMBERS]["member"]))
    return member


def _envelopes(content: RecordDict) -> dict[str, bytes]:
    return {name: bytes(data) for name, data in content.config_records[ENVELOPES].items()}


def _shares(content: RecordDict) -> dict[str, bytes]:
    return {name: bytes(data) for name, data in content.config_records[SHARES_OF].items()}


def _vector(content: RecordDict) -> tuple[Vector, str]:
    """A site's masked numbers, and what each of them stands for."""
    vector = Vector.unpack(unpack_arrays(content.array_records[MASKED]))
    layout = str(content.config_records[LAYOUT][STATISTICS])
    _shapes(layout)
    return vector, layout


def _shapes(layout: str) -> dict[str, list[int]]:
    """The shapes of the arrays that a sum's statistics stand for.

    Raises:
        ValueError: If they are none.
    """
    shapes = parse_json(layout)
    if not isinstance(shapes, dict) or not all(map(_is_shape, shapes.values())):
        msg = "the shapes of its arrays cannot be read"
        raise ValueError(msg)
    return shapes


def _is_shape(found: object) -> bool:
    if not isinstance(found, list) or len(found) > MAX_AXES:
        return False
    return all(type(length) is int and 0 <= length <= MAX_LENGTH for length in found)


def _alike(masked: Mapping[str, tuple[Vector, str]], found: dict[str, Answer]) -> tuple[dict[str, Vector], str]:
    """The vectors whose numbers stand for the same things, and for which; another site's program differs."""
    forms = {site: (layout, len(own.weights), len(own.statistics)) for site, (own, layout) in masked.items()}
    usual = Counter(forms.values()).most_common(1)[0][0] if forms else ("{}", 0, 0)
    for site in [site for site, form in forms.items() if form != usual]:
        found[site] = Answer(site, None, "its part of a secure sum is not like the others': versions differ")
    return {site: own for site, (own, _) in masked.items() if forms[site] == usual}, usual[0]


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


def _opened(total: Vector, layout: Mapping[str, Sequence[int]], sent: Arrays) -> RecordDict:
    """A sum as a site's reply would be: the mean of the weights, each over those who have a part in it."""
    weights, statistics = total.real()
    try:
        results = unflatten(statistics, layout)
        sums = unflatten(weights, {name: array.shape for name, array in sent.items()}) if len(weights) else {}
    except ValueError as error:
        raise _NoSumError(str(error)) from None
    patients = {name.partition(".")[2]: float(results.pop(name)) for name in list(results) if _counts(name)}
    numbers = {f"modality/{name}": count for name, count in patients.items() if name != TRAIN}
    if sums:
        numbers["num-examples"] = patients[TRAIN]
        numbers["train-loss"] = float(results.pop(LOSS)) / max(patients[TRAIN], 1.0)
    model: Arrays = {}
    for name, array in sums.items():
        behind = patients[group_of_parameter(name)]
        model[name] = (array / behind).astype(sent[name].dtype) if behind > 0 else sent[name]
    return reply(model=model, results=results, numbers=numbers)


def _counts(name: str) -> bool:
    return name.startswith(f"{PATIENTS}.")


def _require(there: Mapping[str, Any], least: int) -> None:
    if len(there) < least:
        msg = f"{len(there)} sites are there ({', '.join(sorted(there)) or 'none'}), at least {least} are needed"
        raise _NoSumError(msg)
