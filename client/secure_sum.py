"""A site's part in a secure sum: its keys, shares of others' secrets, its masked numbers, and the way back.

Four messages make a sum. What a site must remember between them lies in Flower's context: in its SuperNode's memory,
never on a disk. A SuperNode that was started anew has forgotten it, and counts as one that dropped out.

The site trusts the center with none of it: it counts for itself who adds to what, and gives each sum one answer.
"""

from __future__ import annotations

import functools
import json
import os
from dataclasses import replace
from typing import Any

import numpy as np
from flwr.app import ConfigRecord, Context, Message, MetricRecord, RecordDict

from client.errors import ExitCode, SiteError
from client.governance.disclosure import limit_disclosure
from client.governance.partners import check_partners, refuse, signature
from client.session import Handler, StudySession, open_session
from shared_models.bounded_json import parse_json
from shared_models.messages import (
    EVALUATE_TEST,
    EVALUATE_VALIDATION,
    MASKED,
    MODEL,
    NUMBERS,
    PREPARE,
    REQUEST,
    RESULTS,
    pack_arrays,
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
    agreed_key,
    flatten,
    group_of,
    group_of_parameter,
    least_survivors,
    pack_members,
    pairwise_key,
    sign_between,
    summed_groups,
    unpack_members,
)
from shared_models.secure_sum_choice import uses_secure_sums

STATE = "secure-sum"
HIDDEN = ("num-examples", "train-loss")
ADDED_IN = {
    TRAIN: (PREPARE, TRAIN_MESSAGE),
    "validation": (TRAIN_MESSAGE, EVALUATE_VALIDATION),
    "test": (EVALUATE_TEST,),
}


def offer_keys(study: StudySession, message: Message, context: Context) -> RecordDict:
    """Announces this site for one sum, with new keys; whatever sum was under way is forgotten."""
    from flwr.supercore.primitives.asymmetric import generate_key_pairs, private_key_to_bytes, public_key_to_bytes

    request = message.content.config_records[REQUEST]
    session = str(request["session"])
    (mask, mask_public), (share, share_public) = generate_key_pairs(), generate_key_pairs()
    keys = public_key_to_bytes(mask_public), public_key_to_bytes(share_public)
    own = Member(study.site.site, *keys, _adds(study, str(request["purpose"])))
    own = Member(own.name, *keys, own.adds, signature(study.site, own.statement(session)))
    state = {"session": session, "own": pack_members([own])}
    state |= {"mask": private_key_to_bytes(mask).decode(), "share": private_key_to_bytes(share).decode()}
    context.state.config_records[STATE] = ConfigRecord(dict(state))
    return RecordDict({MEMBERS: ConfigRecord({"member": state["own"]})})


def share_secrets(study: StudySession, message: Message, context: Context) -> RecordDict:
    """Encrypts for every other member its share of what would take this site's masks away."""
    from flwr.common.secure_aggregation.crypto.shamir import create_shares
    from flwr.common.secure_aggregation.crypto.symmetric_encryption import encrypt
    from flwr.common.secure_aggregation.secaggplus_utils import share_keys_plaintext_concat

    state = _state(context, message, "own", before="members")
    text = str(message.content.config_records[REQUEST]["members"])
    members, own = _members(text), unpack_members(str(state["own"]))[0]
    _check_members(study, members, own, str(state["session"]))
    seed, least = os.urandom(32), least_survivors(len(members))
    seeds = create_shares(seed, least, len(members))
    keys = create_shares(_bytes(state, "mask"), least, len(members))
    place = next(index for index, member in enumerate(members) if member.mask_key == own.mask_key)
    envelopes: dict[str, bytes] = {}
    for index, member in enumerate(members):
        if index != place:
            content = share_keys_plaintext_concat(place, index, seeds[index], keys[index])
            key = agreed_key(_bytes(state, "share"), member.share_key)
            envelopes[member.name] = encrypt(key, content)
    state.update({"members": text, "name": members[place].name, "seed": seed.hex(), "least": least})
    state.update({f"seed/{members[place].name}": seeds[place], f"key/{members[place].name}": keys[place]})
    return RecordDict({ENVELOPES: ConfigRecord(dict(envelopes))})


def summed(handler: Handler) -> Handler:
    """Masks a handler's weights and statistics where the study asks for secure sums, else merges their small cells.

    A sum that this site would not join is refused before the handler has done anything.
    """

    @functools.wraps(handler)
    def handle(message: Message, context: Context) -> Message:
        study = open_session(context)
        if not uses_secure_sums(study.config):
            reply = handler(message, context)
            limit_disclosure(reply.content, study.task, study.site.policy.minimum_count)
            return reply
        state = _state(context, message, "members", before="present")
        members = {member.name: member for member in unpack_members(str(state["members"]))}
        present = _open_envelopes(state, message, members)
        state["present"] = json.dumps(present)  # from here on: two answers under one mask would show their difference
        reply = handler(message, context)
        reply.content = _masked(study, state, {name: members[name] for name in present}, reply.content)
        return reply

    return handle


def _masked(study: StudySession, state: ConfigRecord, present: dict[str, Member], content: RecordDict) -> RecordDict:
    """A reply whose weights and statistics mean something in the sum over `present` alone.

    Weights are multiplied by the patients behind them. What fewer than three members add to is zero.
    """
    groups, own = summed_groups(present.values()), str(state["name"])
    model, results = unpack_arrays(content.array_records[MODEL]), unpack_arrays(content.array_records[RESULTS])
    numbers = dict(content.metric_records[NUMBERS])
    patients = _patients(study) if model else {}
    results |= {f"{PATIENTS}.{group}": np.array(count) for group, count in patients.items()}
    if model:
        results[LOSS] = np.nan_to_num(np.array(numbers["train-loss"])) * patients[TRAIN]
    behind = {name: patients[group] * (group in groups) for name in model if (group := group_of_parameter(name))}
    vector = _in_fixed_point(
        flatten({name: array * behind[name] for name, array in model.items()}),
        flatten({name: array * (group_of(name) in groups) for name, array in results.items()}),
    ).plus_mask(bytes.fromhex(str(state["seed"])))
    for name, member in present.items():
        if name != own:
            vector = vector.plus_mask(pairwise_key(_bytes(state, "mask"), member.mask_key), sign_between(own, name))
    state["groups"] = json.dumps(sorted(groups))
    shapes = {name: list(array.shape) for name, array in results.items()}
    shown = {name: min(value, 1.0) if name.startswith("modality/") else value for name, value in numbers.items()}
    return RecordDict(
        {
            MASKED: pack_arrays(vector.pack()),
            LAYOUT: ConfigRecord({STATISTICS: json.dumps(shapes, sort_keys=True)}),
            NUMBERS: MetricRecord({name: value for name, value in shown.items() if name not in HIDDEN}),
        }
    )


def _in_fixed_point(weights: np.ndarray[Any, Any], statistics: np.ndarray[Any, Any]) -> Vector:
    try:
        return Vector.of(weights, statistics)
    except ValueError as error:
        raise SiteError(
            what="this site's numbers have no place in a sum",
            where="secure aggregation",
            found=str(error),
            expected="finite weights and statistics",
            fix="look at the training: a smaller learning rate, or a table with a value far from all others",
            public="the site's weights or statistics are not finite, or too large for a sum",
            exit_code=ExitCode.STUDY,
        ) from None


def give_shares(message: Message, context: Context) -> RecordDict:
    """Gives the shares that open the sum over `survivors`, once: their own masks, and the others' shared ones."""
    state = _state(context, message, "groups")
    members = {member.name: member for member in unpack_members(str(state["members"]))}
    present, groups = json.loads(str(state["present"])), json.loads(str(state["groups"]))
    survivors = _names(str(message.content.config_records[REQUEST]["survivors"]))
    added = summed_groups(members[name] for name in survivors if name in members)
    if (
        state["name"] not in survivors
        or not set(survivors) <= set(present)
        or len(set(survivors)) < int(str(state["least"]))
        or not set(groups) <= added
    ):
        refuse(f"{len(survivors)} of {len(present)} members are left, with {', '.join(sorted(added))}")
    del context.state.config_records[STATE]
    shares = {name: state[f"seed/{name}" if name in survivors else f"key/{name}"] for name in present}
    return RecordDict({SHARES_OF: ConfigRecord(shares)})


def _members(text: str) -> list[Member]:
    """The members that a message brings."""
    try:
        return unpack_members(text)
    except ValueError as error:
        refuse(str(error))


def _names(text: str) -> list[str]:
    """The members that a message names."""
    try:
        names = parse_json(text)
    except ValueError:
        names = None
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        refuse("its members are not a list of names")
    return names


def _adds(study: StudySession, message_type: str) -> tuple[str, ...]:
    """The groups to which this site adds something other than zeros."""
    cohort = study.cohort
    adds = [part for part in ("validation", "test") if message_type in ADDED_IN[part] and len(cohort.parts[part])]
    if message_type in ADDED_IN[TRAIN] and study.trains:
        adds += [group for group, count in _patients(study).items() if count]
    return tuple(adds)


def _patients(study: StudySession) -> dict[str, float]:
    """Training patients by group: all of them, and those who have each modality."""
    train = study.cohort.parts["train"]
    patients_by_modality = {
        name: float(study.cohort.count_with_modality(train, index)) for index, name in enumerate(study.task.modalities)
    }
    return {TRAIN: float(len(train)), **patients_by_modality}


def _open_envelopes(state: ConfigRecord, message: Message, members: dict[str, Member]) -> list[str]:
    """Keeps the shares that the other members sent here, and returns the names of all who did, and this one's."""
    from cryptography.fernet import InvalidToken
    from flwr.common.secure_aggregation.crypto.symmetric_encryption import decrypt
    from flwr.common.secure_aggregation.secaggplus_utils import share_keys_plaintext_separate

    own, order = str(state["name"]), list(members)
    present = [own]
    for name, envelope in message.content.config_records[ENVELOPES].items():
        sender, _, receiver = name.partition(">")
        if receiver != own or sender not in members or sender == own:
            continue
        try:
            content = decrypt(agreed_key(_bytes(state, "share"), members[sender].share_key), bytes(envelope))
        except InvalidToken:
            refuse("a share was not encrypted by the member it is said to be from")
        source, destination, seed, key = share_keys_plaintext_separate(content)
        if (source, destination) != (order.index(sender), order.index(own)):
            refuse("a share is not from the member it is said to be from, or not for this one")
        state[f"seed/{sender}"], state[f"key/{sender}"] = seed, key
        present.append(sender)
    if len(present) < int(str(state["least"])):
        refuse(f"{len(present)} of {len(members)} members are there, at least {state['least']} are needed")
    return sorted(present)


def _check_members(study: StudySession, members: list[Member], own: Member, session: str) -> None:
    """Refuses a sum of fewer than three sites, without this one as it announced itself, or with strangers."""
    if len(members) < MIN_SITES:
        refuse(f"{len(members)} members, at least {MIN_SITES} are needed")
    announced = [replace(member, name=own.name) for member in members if member.mask_key == own.mask_key]
    if announced != [own]:
        refuse("this site is not among the members as it announced itself")
    check_partners(study.site, [member for member in members if member.mask_key != own.mask_key], session)


def _bytes(state: ConfigRecord, key: str) -> bytes:
    return str(state[key]).encode()


def _state(context: Context, message: Message, holds: str, before: str = "opened") -> ConfigRecord:
    """What this site remembers of the sum that a message belongs to: `holds` is there, `before` is yet to come."""
    state = context.state.config_records.get(STATE, ConfigRecord())
    known = state.get("session") == message.content.config_records[REQUEST].get("session")
    if not known or holds not in state or before in state:
        refuse("a message of a sum that this site does not know, or has answered already")
    return state
