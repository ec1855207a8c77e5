"""A site's durable record of secure aggregation: what must not be done twice, over processes, runs and restarts.

SQLite: every decision is one transaction under its lock (`fcntl`), on the disk (`fsync`) before it is acted on, and
whole or not there after a kill. Secrets are never in it.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import product
from pathlib import Path

from shared_models.atomic_files import must_last
from shared_models.secure_aggregation.question import Question
from shared_models.secure_aggregation.signing import Signed, digest, read_signed
from shared_models.secure_aggregation.statements import Enrolment, Survivors
from shared_models.secure_aggregation.wire import ProtocolError, canonical

FORM, WITHOUT_SETTLED = 3, 2  # an earlier one has not the last table
WAIT_S = 30.0
SYNCHRONOUS = "EXTRA"
_TABLES = """
CREATE TABLE IF NOT EXISTS pins (name TEXT PRIMARY KEY, key TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS approvals (approval TEXT PRIMARY KEY, enrolment TEXT NOT NULL, roster TEXT);
CREATE TABLE IF NOT EXISTS sums (
    approval TEXT, sum INTEGER, dealt TEXT, used TEXT, kind TEXT, round INTEGER, signed TEXT,
    PRIMARY KEY (approval, sum));
CREATE TABLE IF NOT EXISTS asked (approval TEXT, block TEXT, subject TEXT, kind TEXT NOT NULL,
    PRIMARY KEY (approval, block, subject));
CREATE TABLE IF NOT EXISTS opened (approval TEXT, block TEXT, subject TEXT,
    inputs TEXT NOT NULL, survivors TEXT NOT NULL, PRIMARY KEY (approval, block, subject));
CREATE TABLE IF NOT EXISTS survivor_sets (approval TEXT, block TEXT, members TEXT,
    PRIMARY KEY (approval, block, members));
CREATE TABLE IF NOT EXISTS cheats (approval TEXT, name TEXT, PRIMARY KEY (approval, name));
CREATE TABLE IF NOT EXISTS settled (approval TEXT, kind TEXT, round INTEGER, PRIMARY KEY (approval, kind, round));
"""


@dataclass(frozen=True)
class Record:
    """The record of one approval.

    Attributes:
        file: Of all approvals of this site.
        approval: Its hash; of a fold, of its own.
        study: Hash of what the folds of a study share; empty: the approval is the study's.
    """

    file: Path
    approval: str
    study: str = ""

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        """All of it or nothing, with no other process in between."""
        try:
            connection = _open(self.file)
            try:
                connection.execute("BEGIN IMMEDIATE")
                with connection:
                    yield connection
            finally:
                connection.close()
        except (sqlite3.Error, OSError) as error:
            msg = "the site's record of secure aggregation cannot be read or written: it is out until that is mended"
            raise ProtocolError(msg) from error

    def enrol(self, own: Signed[Enrolment]) -> Signed[Enrolment]:
        """The enrolment of this approval: the first one, for good.

        Raises:
            ProtocolError: If this site is another now.
        """
        with self._transaction() as db:
            row = db.execute("SELECT enrolment FROM approvals WHERE approval = ?", (self.approval,)).fetchone()
            if row is None:
                text = canonical(own.to_json()).decode()
                db.execute("INSERT INTO approvals (approval, enrolment) VALUES (?, ?)", (self.approval, text))
                return own
        (known,) = _read([json.loads(row[0])])
        if known.statement != own.statement:
            msg = "this site has other patients or another key than when it enrolled: the study must be approved again"
            raise ProtocolError(msg)
        return known

    def signed_roster(self) -> tuple[Signed[Enrolment], ...] | None:
        """The sites of this approval as they signed themselves, once they are fixed."""
        with self._transaction() as db:
            row = db.execute("SELECT roster FROM approvals WHERE approval = ?", (self.approval,)).fetchone()
        if row is None or row[0] is None:
            return None
        return _read(json.loads(row[0]))

    def roster(self) -> tuple[Enrolment, ...] | None:
        """The sites of this approval, once they are fixed."""
        signed = self.signed_roster()
        return None if signed is None else tuple(site.statement for site in signed)

    def pins(self) -> dict[str, str]:
        """Node keys of other sites as they were first seen."""
        with self._transaction() as db:
            return dict(db.execute("SELECT name, key FROM pins"))

    def fix_roster(self, roster: Sequence[Signed[Enrolment]], own: str = "") -> None:
        """Keeps the roster of this approval, which no one can change, and pins the keys of sites other than `own`.

        Raises:
            ProtocolError: If a site has another key than the one that is pinned.
        """
        text = canonical([site.to_json() for site in roster]).decode()
        with self._transaction() as db:
            for site in (one for one in roster if one.statement.name != own):
                pin = (site.statement.name, site.statement.node_key)
                (key,) = db.execute("SELECT key FROM pins WHERE name = ?", pin[:1]).fetchone() or (pin[1],)
                if key != pin[1]:
                    msg = "a site came with another key than before: a person at this site must accept it first"
                    raise ProtocolError(msg)
                db.execute("INSERT OR IGNORE INTO pins VALUES (?, ?)", pin)
            db.execute("UPDATE approvals SET roster = ? WHERE approval = ? AND roster IS NULL", (text, self.approval))

    def unpin(self, name: str) -> None:
        """Forgets a site's key, as only a person at this site may decide."""
        with self._transaction() as db:
            db.execute("DELETE FROM pins WHERE name = ?", (name,))

    def begin_again(self) -> None:
        """Forgets what was asked and opened, and the roster, because a person has approved the study again.

        Numbers of sums, keys that were used and pins stay.
        """
        with self._transaction() as db:
            for table in ("approvals", "asked", "opened", "cheats", "settled"):
                db.execute(f"DELETE FROM {table} WHERE approval = ?", (self.approval,))
            db.execute("DELETE FROM survivor_sets WHERE approval = ?", (self.study or self.approval,))
            db.execute("UPDATE sums SET kind = NULL, round = NULL WHERE approval = ?", (self.approval,))

    def last_sum(self) -> int:
        """The number of the newest sum for which this site made keys; 0: none."""
        with self._transaction() as db:
            return self._last(db)

    def _last(self, db: sqlite3.Connection) -> int:
        (last,) = db.execute("SELECT max(sum) FROM sums WHERE approval = ?", (self.approval,)).fetchone()
        return int(last or 0)

    def begin_sum(self, number: int) -> None:
        """Takes the number of a sum, once."""
        with self._transaction() as db:
            if number <= self._last(db):
                msg = f"the number of a sum must rise: it is {number} after {self._last(db)}"
                raise ProtocolError(msg)
            db.execute("INSERT INTO sums (approval, sum) VALUES (?, ?)", (self.approval, number))

    def mark_dealt(self, number: int, keys: str) -> None:
        """Deals the secrets of a sum, once."""
        with self._transaction() as db:
            query = "UPDATE sums SET dealt = ? WHERE approval = ? AND sum = ? AND dealt IS NULL"
            _require(db.execute(query, (keys, self.approval, number)), "the secrets of this sum were dealt already")

    def mark_used(self, number: int, question: Question, blocks: Sequence[str], attempts: int) -> None:
        """Uses the keys of a sum for one question, once; asks a block of a model or a round in one kind only."""
        asked = (self.approval, question.kind, question.round)
        with self._transaction() as db:
            query = "UPDATE sums SET used = ?, kind = ?, round = ? WHERE approval = ? AND sum = ? AND used IS NULL"
            values = (question.request, question.kind, question.round, self.approval, number)
            _require(db.execute(query, values), "the keys of this sum were used already")
            count = "SELECT count(*) FROM sums WHERE approval = ? AND kind = ? AND round = ?"
            if db.execute(count, asked).fetchone()[0] > attempts:
                msg = f"this round was asked {attempts} times already, which is all that was approved"
                raise ProtocolError(msg)
            for block in blocks:
                for subject in (f"round/{question.round}", question.subject):
                    self._ask(db, block, subject, question.kind)

    def _ask(self, db: sqlite3.Connection, block: str, subject: str, kind: str) -> None:
        key = (self.approval, block, subject)
        db.execute("INSERT OR IGNORE INTO asked VALUES (?, ?, ?, ?)", (*key, kind))
        query = "SELECT kind FROM asked WHERE approval = ? AND block = ? AND subject = ?"
        if db.execute(query, key).fetchone()[0] != kind:
            msg = "the same numbers were asked by another kind of message already"
            raise ProtocolError(msg)

    def sign_once(
        self, number: int, survivors: Survivors, question: Question, opened: Mapping[str, Sequence[str]], sets: int
    ) -> None:
        """Decides over whom a sum is opened, before that is signed: one S for the keys of a sum, one U for a question.

        Args:
            number: Of the sum.
            survivors: S.
            question: Over which the sum is.
            opened: Members in U of each group that S opens.
            sets: Different members over which one group may be opened.
        """
        statement = digest(survivors)
        with self._transaction() as db:
            query = "UPDATE sums SET signed = ? WHERE approval = ? AND sum = ? AND (signed IS NULL OR signed = ?)"
            changed = db.execute(query, (statement, self.approval, number, statement))
            _require(changed, "this sum was signed over other sites already")
            cheats = {name for (name,) in db.execute("SELECT name FROM cheats WHERE approval = ?", (self.approval,))}
            for block, members in opened.items():
                for subject in (f"round/{question.round}", question.subject):
                    self._open(db, (block, subject), question.inputs, survivors.sites, cheats)
                self._count_set(db, block, members, sets)

    def settle(self, question: Question) -> None:
        """Keeps that a quorum agreed to the sum of a question that this site is in: its numbers are in that sum."""
        with self._transaction() as db:
            values = (self.approval, question.kind, question.round)
            db.execute("INSERT OR IGNORE INTO settled VALUES (?, ?, ?)", values)

    def last_summed(self, kind: str, blocks: Collection[str], before: int, sets: int) -> dict[str, tuple[int, ...]]:
        """By block, rounds before another one of which this site's part may be the last that is in a sum.

        That is one, 0 for none, where the site has seen a quorum agree to the sum of each round that it has answered
        since. A round whose end it has not seen may be in the sum or not, which the center knows and may deny: what the
        site does next then shows its part of that round, as the difference of sums over other sites would. So each such
        round counts as one of the `sets` over which a block may be opened.

        Raises:
            ProtocolError: If they would be more.
        """
        asked = (self.approval, kind, before)
        with self._transaction() as db:
            query = "SELECT round FROM settled WHERE approval = ? AND kind = ? AND round < ?"
            settled = {number for (number,) in db.execute(query, asked)}
            query = "SELECT DISTINCT round FROM sums WHERE approval = ? AND kind = ? AND round < ? AND used IS NOT NULL"
            answered = {number for (number,) in db.execute(query, asked)}
            doubtful = tuple(sorted(number for number in answered if number > max(settled, default=0)))
            for block, number in product(blocks, doubtful):
                self._count_set(db, block, [f"{self.approval}/{kind}/{number}"], sets)
            query = "SELECT subject FROM opened WHERE approval = ? AND block = ? AND subject LIKE 'round/%'"
            opened = {
                block: {int(subject.partition("/")[2]) for (subject,) in db.execute(query, (self.approval, block))}
                for block in blocks
            }
        return {block: (max(settled & numbers, default=0), *doubtful) for block, numbers in opened.items()}

    def _open(
        self, db: sqlite3.Connection, what: tuple[str, str], inputs: str, sites: Sequence[str], cheats: set[str]
    ) -> None:
        """The retry rule: a block opens again for the same question, over the same sites or without a proved cheat."""
        key = (self.approval, *what)
        query = "SELECT inputs, survivors FROM opened WHERE approval = ? AND block = ? AND subject = ?"
        before = db.execute(query, key).fetchone()
        if before is not None:
            known = set(json.loads(before[1]))
            if before[0] != inputs or not set(sites) <= known or not known - set(sites) <= cheats:
                msg = "these numbers were opened already, over other sites or for another question"
                raise ProtocolError(msg)
        db.execute("INSERT OR REPLACE INTO opened VALUES (?, ?, ?, ?, ?)", (*key, inputs, json.dumps(list(sites))))

    def _count_set(self, db: sqlite3.Connection, block: str, members: Sequence[str], most: int) -> None:
        values = (self.study or self.approval, block, json.dumps(list(members)))
        db.execute("INSERT OR IGNORE INTO survivor_sets VALUES (?, ?, ?)", values)
        query = "SELECT count(*) FROM survivor_sets WHERE approval = ? AND block = ?"
        if db.execute(query, values[:2]).fetchone()[0] > most:
            msg = f"a sum over yet other sites than before would be more than the {most} that were approved"
            raise ProtocolError(msg)

    def add_cheat(self, name: str) -> None:
        """Keeps that a site was proved to have dealt wrongly."""
        with self._transaction() as db:
            db.execute("INSERT OR IGNORE INTO cheats VALUES (?, ?)", (self.approval, name))


def _read(entries: Sequence[object]) -> tuple[Signed[Enrolment], ...]:
    """Enrolments as they were stored."""
    try:
        return tuple(read_signed(entry, Enrolment) for entry in entries)
    except ProtocolError:
        msg = "the study was begun with another release: it must be approved again at each site"
        raise ProtocolError(msg) from None


def _require(changed: sqlite3.Cursor, otherwise: str) -> None:
    if changed.rowcount != 1:
        raise ProtocolError(otherwise)


def _open(file: Path) -> sqlite3.Connection:
    """The database, made if it is not there yet; its `user_version` says whether it is one of ours."""
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    connection = sqlite3.connect(file, timeout=WAIT_S, isolation_level=None)
    try:
        connection.execute(f"PRAGMA synchronous = {SYNCHRONOUS if must_last(file) else 'OFF'}")
        (form,) = connection.execute("PRAGMA user_version").fetchone()
        if form in (0, WITHOUT_SETTLED):
            connection.executescript(f"BEGIN IMMEDIATE; {_TABLES} PRAGMA user_version = {FORM}; COMMIT;")
        elif form != FORM:
            msg = f"form {form}, expected {FORM}"
            raise sqlite3.DatabaseError(msg)
    except BaseException:
        connection.close()
        raise
    return connection
