"""A site's part in a secure sum: its keys, shares of others' secrets, its masked numbers, and the way back.

Four messages make a sum. What a site must remember between them lies in Flower's context: in its SuperNode's memory,
never on a disk. A SuperNode that was started anew has forgotten it, and counts as one that dropped out.

The site trusts the center with none of it: it counts for itself who adds to what, and gives each sum one answer.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from flwr.app import ConfigRecord, RecordDict

from client.errors import ExitCode, SiteError
from client.governance.partners import check_partners, refuse, signature
from client.session import AdmittedStudy, StudySession
from shared_models.messages import (
    Arrays,
    EvaluateTestRequest,
    EvaluateValidationRequest,
    JoinSum,
    KeysReply,
    KeysRequest,
    MaskedReply,
    PrepareRequest,
    Reply,
    SharesReply,
    SharesRequest,
    TrainReply,
    TrainRequest,
    UnmaskReply,
    UnmaskRequest,
)
from shared_models.secure_sum import (
    LOSS,
    MIN_SITES,
    PATIENTS,
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

STATE = "secure-sum"
ADDED_IN = {
    TRAIN: (PrepareRequest.KIND, TrainRequest.KIND),
    "validation": (TrainRequest.KIND, EvaluateValidationRequest.KIND),
    "test": (EvaluateTestRequest.KIND,),
}


def offer_keys(study: StudySession, request: KeysRequest) -> KeysReply:
    """Announces this site for one sum, with new keys; whatever sum was under way is forgotten."""
    from flwr.supercore.primitives.asymmetric import generate_key_pairs, private_key_to_bytes, public_key_to_bytes

    (mask, mask_public), (share, share_public) = generate_key_pairs(), generate_key_pairs()
    keys = public_key_to_bytes(mask_public), public_key_to_bytes(share_public)
    own = Member(study.site.site, *keys, _adds(study, request.purpose))
    own = Member(own.name, *keys, own.adds, signature(study.site, own.statement(request.session)))
    state = {"session": request.session, "own": pack_members([own])}
    state |= {"mask": private_key_to_bytes(mask).decode(), "share": private_key_to_bytes(share).decode()}
    study.memory.config_records[STATE] = ConfigRecord(dict(state))
    return KeysReply(member=state["own"])


def share_secrets(study: StudySession, request: SharesRequest) -> SharesReply:
    """Encrypts for every other member its share of what would take this site's masks away."""
    from flwr.common.secure_aggregation.crypto.shamir import create_shares
    from flwr.common.secure_aggregation.crypto.symmetric_encryption import encrypt
    from flwr.common.secure_aggregation.secaggplus_utils import share_keys_plaintext_concat

    state = _state(study, request.session, "own", before="members")
    members, own = unpack_members(request.members), unpack_members(str(state["own"]))[0]
    _check_members(study, members, own, request.session)
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
    state.update({"members": request.members, "name": members[place].name, "seed": seed.hex(), "least": least})
    state.update({f"seed/{members[place].name}": seeds[place], f"key/{members[place].name}": keys[place]})
    return SharesReply(envelopes=envelopes)


def join_sum(study: StudySession, joining: JoinSum) -> Together:
    """Takes part in the sum that a request belongs to, if this site would: before its handler has done anything."""
    state = _state(study, joining.session, "members", before="present")
    members = {member.name: member for member in unpack_members(str(state["members"]))}
    present = _open_envelopes(state, joining.envelopes, members)
    state["present"] = json.dumps(present)  # from here on: two answers under one mask would show their difference
    return Together(study, state, {name: members[name] for name in present})


@dataclass(frozen=True)
class Together:
    """The sum that a reply is for.

    Attributes:
        study: The study.
        state: What this site remembers of the sum.
        present: The members whose shares have come, by name; this site is one.
    """

    study: StudySession
    state: ConfigRecord
    present: Mapping[str, Member]

    def hide(self, reply: Any) -> RecordDict:
        """A reply whose weights and statistics mean something in the sum over `present` alone.

        Weights are multiplied by the patients behind them. What fewer than three members add to is zero.
        """
        assert isinstance(reply, Reply)
        groups = summed_groups(self.present.values())
        model, results = _to_sum(self.study, reply)
        vector = _in_fixed_point(
            flatten({name: array * (group_of_parameter(name) in groups) for name, array in model.items()}),
            flatten({name: array * (group_of(name) in groups) for name, array in results.items()}),
        )
        self.state["groups"] = json.dumps(sorted(groups))
        shapes = {name: list(array.shape) for name, array in results.items()}
        layout = json.dumps(shapes, sort_keys=True)
        return MaskedReply(reply.without_sums(), self._masked(vector).pack(), layout).pack()

    def _masked(self, vector: Vector) -> Vector:
        own = str(self.state["name"])
        vector = vector.plus_mask(bytes.fromhex(str(self.state["seed"])))
        for name, member in self.present.items():
            if name != own:
                key = pairwise_key(_bytes(self.state, "mask"), member.mask_key)
                vector = vector.plus_mask(key, sign_between(own, name))
        return vector


def _to_sum(study: StudySession, reply: Reply) -> tuple[Arrays, Arrays]:
    """What a reply adds to a sum: weights times the patients behind them, and statistics."""
    fields = reply.to_sum()
    model: Arrays = {}
    results: Arrays = {}
    if isinstance(reply, TrainReply):
        patients = _patients(study)
        model = {name: array * patients[group_of_parameter(name)] for name, array in fields.pop("model").items()}
        results = {f"{PATIENTS}.{group}": np.array(count) for group, count in patients.items()}
        results[LOSS] = np.nan_to_num(np.array(reply.loss)) * patients[TRAIN]
    for name, arrays in fields.items():
        results |= {f"{name}.{key}": array for key, array in arrays.items()}
    return model, results


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


def give_shares(study: StudySession, request: UnmaskRequest) -> UnmaskReply:
    """Gives the shares that open the sum over `survivors`, once: their own masks, and the others' shared ones."""
    state, survivors = _state(study, request.session, "groups"), request.survivors
    members = {member.name: member for member in unpack_members(str(state["members"]))}
    present, groups = json.loads(str(state["present"])), json.loads(str(state["groups"]))
    added = summed_groups(members[name] for name in survivors if name in members)
    if (
        state["name"] not in survivors
        or not set(survivors) <= set(present)
        or len(set(survivors)) < int(str(state["least"]))
        or not set(groups) <= added
    ):
        refuse(f"{len(survivors)} of {len(present)} members are left, with {', '.join(sorted(added))}")
    del study.memory.config_records[STATE]
    kinds = {name: "seed" if name in survivors else "key" for name in present}
    return UnmaskReply(shares={name: bytes(state[f"{kind}/{name}"]) for name, kind in kinds.items()})


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


def _open_envelopes(state: ConfigRecord, envelopes: Mapping[str, bytes], members: Mapping[str, Member]) -> list[str]:
    """Keeps the shares that the other members sent here, and returns the names of all who did, and this one's."""
    from cryptography.fernet import InvalidToken
    from flwr.common.secure_aggregation.crypto.symmetric_encryption import decrypt
    from flwr.common.secure_aggregation.secaggplus_utils import share_keys_plaintext_separate

    own, order = str(state["name"]), list(members)
    present = [own]
    for name, envelope in envelopes.items():
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


def _state(study: AdmittedStudy, session: str, holds: str, before: str = "opened") -> ConfigRecord:
    """What this site remembers of the sum that a message belongs to: `holds` is there, `before` is yet to come."""
    state = study.memory.config_records.get(STATE, ConfigRecord())
    if state.get("session") != session or holds not in state or before in state:
        refuse("a message of a sum that this site does not know, or has answered already")
    return state
