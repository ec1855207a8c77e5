"""Anything that a center or a neighbour may send is refused in one sentence, and nothing is spent twice."""

from __future__ import annotations

import string
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from federation import ALL, Federation, federation, node_key, numbers, point, question
from hostile_sum import Try, start
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from client.governance.secure_aggregation.exchanges import answer, confirm, deal, enrol, open_sum
from client.governance.secure_aggregation.sum_session import Session
from shared_models.secure_aggregation import wire
from shared_models.secure_aggregation.layout import Contribution, Layout
from shared_models.secure_aggregation.signing import digest, public_key, read_signed, sign, signed, verify
from shared_models.secure_aggregation.statements import Deal, Enrolment, Facts, Keys
from shared_models.secure_aggregation.wire import ProtocolError

HOSTILE_TEXTS = {
    "nested": b"[" * 100_000,
    "nested tables": b'{"a":' * 100_000,
    "much": b" " * (wire.MAX_CONTROL_BYTES + 1),
    "not a number": b'{"sum": NaN}',
    "infinite": b'{"sum": 1e999}',
    "a fraction": b'{"sum": 1.0}',
    "a name twice": b'{"sum": 1, "sum": 2}',
    "a huge number": b'{"sum": ' + b"9" * 5000 + b"}",
    "half a character": rb'"\ud800"',
    "no ASCII": "ä".encode(),
    "nothing": b"",
    "half": b'{"sum":',
}


@pytest.mark.parametrize("what", HOSTILE_TEXTS)
@pytest.mark.parametrize("handler", [enrol, deal, confirm, open_sum])
def test_a_hostile_text_is_refused_in_one_sentence(quick_disk: Path, what: str, handler: Any) -> None:
    world = federation(quick_disk, 3)
    with pytest.raises(ProtocolError) as refusal:
        handler(world.sites["s0"], world.sessions["s0"], {"control": HOSTILE_TEXTS[what]})
    assert 10 < len(str(refusal.value)) < 200
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    "message", [None, 7, "text", [], {}, {"control": None}, {"control": 3}, {"control": b"{}", "block/x": b""}]
)
def test_what_is_no_message_is_refused(quick_disk: Path, message: Any) -> None:
    world = federation(quick_disk, 3)
    for handler in (enrol, deal, confirm, open_sum):
        with pytest.raises(ProtocolError):
            handler(world.sites["s0"], world.sessions["s0"], message)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(string.printable, max_size=8),
    lambda part: (
        st.lists(part, max_size=3) | st.dictionaries(st.text(string.ascii_letters, max_size=6), part, max_size=3)
    ),
    max_leaves=6,
)


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Every place in a JSON value."""
    if isinstance(value, dict):
        return [path, *(place for key, part in value.items() for place in places(part, (*path, key)))]
    if isinstance(value, list):
        return [path, *(place for index, part in enumerate(value) for place in places(part, (*path, index)))]
    return [path]


def replaced(value: Any, path: tuple[Any, ...], part: Any) -> Any:
    """The same with another value at a place."""
    if not path:
        return part
    copy = dict(value) if isinstance(value, dict) else list(value)
    copy[path[0]] = replaced(value[path[0]], path[1:], part)
    return copy


@pytest.fixture(scope="module")
def requests(quick_disk: Path) -> tuple[Federation, dict[str, tuple[Session, wire.Message]]]:
    """Requests of all five exchanges that a site would answer, with its memory just before."""
    world, requests_by_kind = federation(quick_disk, 3), {}
    plain = world.ask

    def ask(exchange: str, name: str, request: wire.Message, *rest: Any) -> Any:
        if name == "s0":
            requests_by_kind[exchange] = (world.fork(name), request)
        return plain(exchange, name, request, *rest)

    world.ask = ask  # type: ignore[method-assign]
    start(world).answer().confirm(ahead="train").open()
    assert not world.refusals
    return world, requests_by_kind


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_any_part_of_a_message_may_be_anything(
    requests: tuple[Federation, dict[str, tuple[Session, wire.Message]]], data: st.DataObject
) -> None:
    """A refusal, or what was answered before; no other error, and never a second masked answer."""
    world, requests_by_kind = requests
    exchange = data.draw(st.sampled_from(["enrol", "deal", "answer", "confirm", "open"]))
    session, request = requests_by_kind[exchange]
    session = Session.unpack(session.pack())
    control = wire.parse(request["control"])
    path = data.draw(st.sampled_from(places(control)))
    spoilt = {"control": wire.canonical(replaced(control, path, data.draw(JSON)))}
    handlers: dict[str, Any] = {"enrol": enrol, "deal": deal, "confirm": confirm, "open": open_sum}
    refusal = ""
    try:
        if exchange == "answer":
            asked = question()
            answer(world.sites["s0"], session, spoilt, asked, lambda _: numbers("s0", asked))
        else:
            handlers[exchange](world.sites["s0"], session, spoilt)
    except ProtocolError as error:
        refusal = str(error)
    assert refusal or exchange in ("enrol", "confirm", "open")
    assert len(refusal) < 200


@pytest.mark.parametrize("key", ["", "00", "00" * 49, "02" + "ff" * 48, "05" + "11" * 48, "04" + "11" * 96, "zz" * 49])
def test_a_key_that_is_none_is_refused(key: str) -> None:
    with pytest.raises(ProtocolError):
        public_key(wire.hexadecimal(key, 49))


def test_a_statement_is_verified_for_its_own_kind_and_key_only() -> None:
    facts = Facts(True, False, True, ("genomic",))
    statement = Enrolment("ab" * 32, "a", point("a"), facts)
    signature = sign(node_key("a"), statement)
    assert verify(point("a"), statement, signature)
    assert not verify(point("b"), statement, signature)
    assert not verify(point("a"), Enrolment("ab" * 32, "b", point("a"), facts), signature)
    assert not verify(point("a"), statement, "00" * 70)
    assert not verify("02" + "ff" * 48, statement, signature)
    assert (
        read_signed(wire.parse(wire.canonical(signed(node_key("a"), statement).to_json())), Enrolment).statement
        == statement
    )


@pytest.mark.parametrize("value", [{}, [], 1, None, {"statement": {}, "signature": "00"}, {"statement": 1}])
@pytest.mark.parametrize("kind", [Enrolment, Keys, Deal])
def test_a_statement_that_is_none_is_refused(value: Any, kind: Any) -> None:
    with pytest.raises(ProtocolError):
        read_signed(value, kind)


@pytest.mark.parametrize(
    "value",
    [
        {"updates": {"train": {"w": [-1]}}, "statistics": {}},
        {"updates": {"train": {"w": [2**31, 2**31]}}, "statistics": {}},
        {"updates": {"train": {"w": [1] * 9}}, "statistics": {}},
        {"updates": {"train": {"": [1]}}, "statistics": {}},
        {"updates": {"train": {"w": [True]}}, "statistics": {}},
        {"updates": {"train": [1]}, "statistics": {}},
    ],
)
def test_a_layout_that_is_none_is_refused(value: Any) -> None:
    with pytest.raises(ProtocolError):
        Layout.read(value)


def test_a_site_of_too_many_modalities_is_refused() -> None:
    """Its deals would be too long for all others."""
    facts = {"trains": True, "validation": True, "test": True, "modalities": [], "known": []}
    for field, most in (("modalities", 32), ("known", 96)):
        assert len(getattr(Facts.read({**facts, field: [f"m{index}" for index in range(most)]}), field)) == most
        with pytest.raises(ProtocolError):
            Facts.read({**facts, field: [f"m{index}" for index in range(most + 1)]})


def test_a_record_that_is_not_ours_stops_the_site_in_one_sentence(quick_disk: Path) -> None:
    world = federation(quick_disk, 3)
    world.sites["s0"].record.file.write_bytes(b"no database at all, but some other file" * 100)
    with pytest.raises(ProtocolError, match="record of secure aggregation cannot be read"):
        enrol(world.sites["s0"], world.sessions["s0"], wire.pack({"run": "1", "sum": 1}))


@pytest.mark.parametrize("spoilt", [np.nan, np.inf, -np.inf, 1e300, 1e38])
def test_replies_do_not_depend_on_what_the_numbers_are(quick_disk: Path, spoilt: float) -> None:
    """P7: the same shapes, the same fields, no refusal."""
    shapes = []
    for value in (0.5, spoilt):
        world = federation(quick_disk, 3)
        usual = numbers("s0", question())
        bad = Contribution(
            {name: np.full_like(array, value) for name, array in usual.updates.items()},
            {name: np.full_like(array, value) for name, array in usual.statistics.items()},
            dict.fromkeys(usual.patients, value),
        )
        world.contribute = lambda name, asked, bad=bad: bad
        tried = Try(world, list(world.facts)).enrol().deal()
        deals, session = list(tried.deals.values()), world.sessions["s0"]
        envelopes = {name: sent["s0"] for name, sent in tried.envelopes.items() if name != "s0"}
        request = wire.pack({"sum": tried.number, "deals": deals, "envelopes": envelopes})
        reply, audit = answer(world.sites["s0"], session, request, question(), lambda _, bad=bad: bad)
        control = wire.parse(reply["control"])
        shapes.append(
            ({key: len(data) for key, data in reply.items() if key != "control"}, set(control), control["layout"])
        )
        assert (audit["altered"] > 0) == (value is spoilt)
    assert shapes[0] == shapes[1]


def test_facts_that_changed_need_a_new_approval(quick_disk: Path) -> None:
    world = federation(quick_disk, 3)
    enrol(world.sites["s0"], Session(), wire.pack({"run": "1", "sum": 1}))
    other = Federation(quick_disk, {"s0": Facts(True, True, False), "s1": ALL, "s2": ALL}, frozenset())
    object.__setattr__(other.sites["s0"], "record", world.sites["s0"].record)
    with pytest.raises(ProtocolError, match="approved again"):
        enrol(other.sites["s0"], Session(), wire.pack({"run": "1", "sum": 2}))


def test_a_pinned_key_changes_only_by_a_person(quick_disk: Path) -> None:
    """Without partners, a site's key is the one that came first."""
    world = Federation(quick_disk, dict.fromkeys(["s0", "s1", "s2"], ALL), frozenset(), partners=False)
    site, record = world.sites["s0"], world.sites["s0"].record
    first = [signed(node_key(name), world.sites[name].enrolment) for name in world.facts]
    record.enrol(first[0])
    record.fix_roster(first)
    assert digest(record.roster()[1]) == digest(first[1].statement)  # type: ignore[index]
    later = type(record)(record.file, "cd" * 32)
    changed = [*first[:2], signed(node_key("x"), Enrolment("cd" * 32, "s2", point("x"), ALL))]
    later.enrol(first[0])
    with pytest.raises(ProtocolError, match="another key than before"):
        later.fix_roster(changed)
    record.unpin("s2")
    later.fix_roster(changed)
    assert record.pins()["s2"] == point("x")
    assert site.name == "s0"
