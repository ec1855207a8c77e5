"""Tables that are queries: a real SQLite file, and a real PostgreSQL server where its programs are at hand."""

import datetime
import os
import pwd
import shutil
import socket
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest

from client.cohort.load import load_cohort
from client.errors import ExitCode, SiteError
from client.tables.read import read_table
from client.tables.sql import query_stamp

ENDLESS = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT i AS PatientID FROM n"
QUERY = "SELECT *, Age / 2.0 AS Half, 'a%b:c' AS Odd FROM patients WHERE ER <> 'no:%'"


@pytest.fixture
def database(hospital, rows):
    """The 40 patients in SQLite."""
    path = hospital.data / "clinical.db"
    header, *patients = rows(40)
    with sqlite3.connect(path) as connection:
        connection.execute(f"CREATE TABLE patients ({', '.join(header)})")
        connection.executemany(f"INSERT INTO patients VALUES ({', '.join('?' * len(header))})", patients)
    connection.close()
    entry = {"sql": QUERY, "database": "sqlite:///clinical.db", "patient_id": "PatientID"}
    hospital.settings["tables"]["clinical"] = entry
    return path


def change(path, statement):
    with sqlite3.connect(path) as connection:
        connection.execute(statement)
    connection.close()


def stamp(hospital):
    site = hospital.site()
    return query_stamp(site, site.tables["clinical"], "here")


def test_a_query_is_a_table(hospital, database):
    table = read_table(hospital.site(), "clinical", ["Age", "Half", "Odd"])
    assert len(table.patients) == 40
    assert table.rows[:2] == (1, 2)
    assert table.cells["Age"][:2] == ("40", "41")
    assert table.cells["Half"][:2] == ("20", "20.5")
    assert table.cells["Odd"][0] == "a%b:c"
    assert "sqlite:///clinical.db" in table.where


def test_a_cohort_from_sqlite_is_that_of_the_file_and_follows_the_database(hospital, database, task, config):
    assert len(load_cohort(hospital.site(), task, config).patients) == 40
    change(database, "DELETE FROM patients WHERE Age < 42")
    assert len(load_cohort(hospital.site(), task, config).patients) == 36


def test_what_sqlite_has_not_yet_written_back_is_noticed(hospital, database):
    before = stamp(hospital)
    assert stamp(hospital) == before
    writer = sqlite3.connect(database)
    writer.execute("PRAGMA journal_mode=WAL")
    stamps = {before, stamp(hospital)}
    writer.execute("UPDATE patients SET Age = 50")
    writer.commit()
    stamps.add(stamp(hospital))
    assert len(stamps) == 3
    assert read_table(hospital.site(), "clinical", ["Age"]).cells["Age"][0] == "50"
    writer.close()


def test_reading_leaves_the_folder_as_it_is(hospital, database):
    before = (database.read_bytes(), sorted(hospital.data.iterdir()), stamp(hospital))
    read_table(hospital.site(), "clinical", ["Age"])
    assert (database.read_bytes(), sorted(hospital.data.iterdir()), stamp(hospital)) == before


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"database": "sqlite:///gone.db"}, ["no file", "gone.db", "starts at data_root"]),
        ({"database": "sqlite:///../clinical.db"}, ["escapes data_root", "database"]),
        ({"database": "sqlite:////etc/passwd"}, ["escapes data_root"]),
        ({"database": "sqlite:///clinical.csv"}, ["not a database"]),
        ({"sql": "SELECT Age FROM patients"}, ["a column is missing", "'PatientID'"]),
        ({"sql": "SELECT * FROM people"}, ["no such table: people", "sqlite3"]),
        ({"sql": "WITH p AS (SELECT 1) DELETE FROM patients"}, ["readonly database", "only read"]),
        ({"sql": "SELECT x'00' AS PatientID"}, ["bytes in column 'PatientID'", "cast it"]),
        ({"sql": "SELECT NULL AS PatientID"}, ["no patient identifier", "row 1"]),
        (
            {"sql": ENDLESS.replace("SELECT i AS", "SELECT max(i) AS"), "timeout_s": 0.5},
            ["interrupted", "`timeout_s` above 0.5"],
        ),
        ({"sql": "DELETE FROM patients"}, ["expected one SELECT"]),
        ({"sql": "SELECT 1; DROP TABLE patients"}, ["expected one SELECT"]),
        ({"sql": ""}, ["expected either `file`, or `sql`"]),
        ({"file": "clinical.csv"}, ["expected either `file`, or `sql`"]),
        ({"database": "mysql://a@b/c"}, ["expected sqlite:///FILE"]),
        ({"database": "postgresql://me:hunter2@host/db"}, ["leave the password", "password_file"]),
        ({"database": "postgresql://host/db?user=me&password=hunter2"}, ["leave the password"]),
        ({"databse": "x"}, ["did you mean 'database'?"]),
    ],
)
def test_a_query_that_cannot_be_used_is_one_message(hospital, database, settings, message):
    hospital.settings["tables"]["clinical"] |= settings
    before = database.read_bytes()
    with pytest.raises(SiteError) as caught:
        read_table(hospital.site(), "clinical", [])
    for part in message:
        assert part in str(caught.value)
    assert "hunter2" not in str(caught.value)
    assert caught.value.__cause__ is None
    assert database.read_bytes() == before


def test_a_query_without_end_is_cut(hospital, database, monkeypatch):
    monkeypatch.setattr("client.tables.source.MAX_ROWS", 1000)
    hospital.settings["tables"]["clinical"]["sql"] = ENDLESS
    with pytest.raises(SiteError, match="more than 1,000 rows"):
        read_table(hospital.site(), "clinical", [])


def test_the_password_must_be_there_and_ones_own(hospital, monkeypatch):
    entry = {"sql": "SELECT 1", "database": "postgresql://me@127.0.0.1:1/db", "patient_id": "id"}
    hospital.settings["tables"]["clinical"] = entry | {"password_env": "NO_SUCH_PASSWORD"}
    monkeypatch.delenv("NO_SUCH_PASSWORD", raising=False)
    with pytest.raises(SiteError, match="no environment variable NO_SUCH_PASSWORD") as caught:
        read_table(hospital.site(), "clinical", [])
    assert caught.value.exit_code is ExitCode.SITE_CONFIG
    path = hospital.folder / "db.password"
    hospital.settings["tables"]["clinical"] = entry | {"password_file": "db.password"}
    with pytest.raises(SiteError, match=r"no file .*db\.password"):
        read_table(hospital.site(), "clinical", [])
    path.write_text("hunter2\n")
    path.chmod(0o644)
    with pytest.raises(SiteError, match="chmod 600") as caught:
        read_table(hospital.site(), "clinical", [])
    assert "hunter2" not in str(caught.value)


def test_a_missing_driver_is_named(hospital, monkeypatch):
    monkeypatch.setitem(sys.modules, "psycopg", None)  # as if it were not installed
    entry = {"sql": "SELECT 1", "database": "postgresql://me@127.0.0.1:1/db", "patient_id": "id"}
    hospital.settings["tables"]["clinical"] = entry
    with pytest.raises(SiteError, match=r"pip install \"psycopg\[binary\]"):
        read_table(hospital.site(), "clinical", [])


# --- PostgreSQL ---


def programs():
    """The folder of PostgreSQL's server programs."""
    paths = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    path = paths[-1] if paths else shutil.which("initdb")
    return Path(path).resolve().parent if path else None


def as_other_user():
    """initdb refuses root."""
    if os.geteuid() != 0:
        return {}
    for name in ("postgres", "nobody"):
        try:
            user = pwd.getpwnam(name)
        except KeyError:
            continue
        return {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
    pytest.skip("PostgreSQL does not run as root, and there is no other user")


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """A PostgreSQL server on this computer with 40 patients and a user who asks for a password; yields its port."""
    pytest.importorskip("psycopg", reason="no psycopg: pip install 'psycopg[binary]'")
    if (folder := programs()) is None:
        pytest.skip("no PostgreSQL server on this computer (initdb)")
    user = as_other_user()
    home = Path(f"/tmp/pg-{os.getpid()}-{time.monotonic_ns()}")
    home.mkdir()
    if user:
        os.chown(home, user["user"], user["group"])
    password = home / "password"
    password.write_text("s3cret-word")
    password.chmod(0o644)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    run = {"check": True, "capture_output": True, "cwd": home, **user}
    data = home / "data"
    command = [folder / "initdb", "-D", data, "-U", "reader", "-A", "scram-sha-256", "--pwfile", password, "--no-sync"]
    subprocess.run([*command, "-E", "UTF8", "--locale=C"], **run)
    options = f"-p {port} -k {home} -c listen_addresses=127.0.0.1 -c fsync=off -c shared_buffers=8MB"
    pg = [folder / "pg_ctl", "-D", data, "-w", "-t", "30"]
    subprocess.run([*pg, "-o", options, "-l", home / "log", "start"], **(run | {"capture_output": False}))
    try:
        fill(port)
        yield port
    finally:
        subprocess.run([*pg, "-m", "immediate", "stop"], **run)
        shutil.rmtree(home)


def owner(port):
    import psycopg

    return psycopg.connect(host="127.0.0.1", port=port, user="reader", password="s3cret-word", dbname="postgres")


def fill(port):
    with owner(port) as connection:
        connection.execute(
            "CREATE TABLE patients (id text, age int, size numeric(5,2), er boolean, event smallint, days float8, "
            "diagnosed date, seen timestamptz, note jsonb)"
        )
        connection.execute("CREATE SEQUENCE counter")
        for i in range(40):
            row = (f"secret-{i:03d}", 40 + i % 30, 1.5 + i, i % 2 == 1, int(i % 4 == 0), 100.0 + 37 * i)
            dates = (datetime.date(2020, 1, 1), datetime.datetime(2021, 1, 1, tzinfo=datetime.UTC))
            values = (*row, *dates, '{"a": 1}')
            connection.execute("INSERT INTO patients VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s)", values)


@pytest.fixture
def postgres(hospital, server):
    password = hospital.folder / "db.password"
    password.write_text("s3cret-word\n")
    password.chmod(0o600)
    hospital.settings["tables"]["clinical"] = {
        "sql": "SELECT * FROM patients WHERE id LIKE 'secret%' AND age::int > 0",
        "database": f"postgresql://reader@127.0.0.1:{server}/postgres",
        "password_file": "db.password",
        "patient_id": "id",
        "timeout_s": 60,
    }
    hospital.settings["modalities"]["clinical"]["features"] = {
        "age_years": "age",
        "er": {"column": "er", "codes": {"true": "positive", "false": "negative"}},
    }
    days = {"column": "seen", "since": "diagnosed"}
    hospital.settings["targets"]["recurrence"] = {"event": "event", "event_days": ["days"], "followup_days": [days]}
    return hospital


def test_a_cohort_from_postgresql(postgres, server, task, config):
    cohort = load_cohort(postgres.site(), task, config)
    assert len(cohort.patients) == 40
    assert cohort.truths["recurrence"][:2].tolist() == [[100, 1], [366, 0]]
    assert load_cohort(postgres.site(), task, config).patients == cohort.patients
    table = read_table(postgres.site(), "clinical", ["size", "er", "diagnosed"])
    assert [table.cells[name][0] for name in ("size", "er", "diagnosed")] == ["1.50", "False", "2020-01-01"]


def test_a_changed_row_is_noticed_and_another_order_is_not(postgres, server):
    def stamp_of(sql):
        postgres.settings["tables"]["clinical"]["sql"] = sql
        return stamp(postgres)

    some = "SELECT id, age FROM patients WHERE id < 'secret-005'"
    first = stamp_of(f"{some} ORDER BY id")
    assert stamp_of(f"{some} ORDER BY id DESC") == first
    with owner(server) as connection:
        connection.execute("UPDATE patients SET age = age + 1 WHERE id = 'secret-001'")
    assert stamp_of(f"{some} ORDER BY id") != first
    with owner(server) as connection:
        connection.execute("UPDATE patients SET age = age - 1 WHERE id = 'secret-001'")
    assert stamp_of(some) == first


def test_the_password_may_come_from_the_environment(postgres, monkeypatch):
    entry = postgres.settings["tables"]["clinical"]
    del entry["password_file"]
    entry["password_env"] = "CLINIC_PASSWORD"
    monkeypatch.setenv("CLINIC_PASSWORD", "s3cret-word")
    assert len(read_table(postgres.site(), "clinical", []).patients) == 40


@pytest.mark.parametrize(
    ("sql", "message"),
    [
        ("WITH d AS (DELETE FROM patients RETURNING *) SELECT * FROM d", ["data-modifying statements", "psql"]),
        (
            "SELECT id, set_config('transaction_read_only', 'off', false) FROM patients",
            ["read-write mode", "transaction"],
        ),
        ("SELECT id, nextval('counter') FROM patients", ["nextval", "read-only transaction", "only read"]),
        ("SELECT id, pg_sleep(3) FROM patients", ["statement timeout", "`timeout_s` above 2"]),
        ("SELECT * FROM people", ['relation "people" does not exist']),
        ("SELECT id, note AS age FROM patients", ["dict in column 'age'", "cast it"]),
    ],
)
def test_postgresql_is_only_read_and_not_for_ever(postgres, server, sql, message):
    postgres.settings["tables"]["clinical"] |= {"sql": sql} | ({"timeout_s": 2} if "pg_sleep" in sql else {})
    with pytest.raises(SiteError) as caught:
        read_table(postgres.site(), "clinical", ["age"] if "age" in sql else [])
    for part in message:
        assert part in str(caught.value)
    assert "s3cret" not in str(caught.value)
    with owner(server) as connection:
        assert connection.execute("SELECT count(*) FROM patients").fetchone() == (40,)


def test_a_wrong_password_and_a_server_that_is_away(postgres):
    (postgres.folder / "db.password").write_text("wrong-word")
    with pytest.raises(SiteError, match="password authentication failed") as caught:
        read_table(postgres.site(), "clinical", [])
    assert "wrong-word" not in str(caught.value)
    assert "postgres" not in caught.value.public
    postgres.settings["tables"]["clinical"]["database"] = "postgresql://reader@127.0.0.1:1/postgres"
    with pytest.raises(SiteError, match=r"(?i)connection refused"):
        read_table(postgres.site(), "clinical", [])


def test_the_query_of_the_documents_reads_an_omop_data_model(hospital):
    page = (Path(__file__).parents[3] / "docs/hospital.md").read_text(encoding="utf-8")
    query = page.split("<!-- omop -->")[1].split("```sql")[1].split("```")[0]
    with closing(sqlite3.connect(hospital.data / "cdm.db")) as database, database:
        database.executescript(
            """
            CREATE TABLE person (person_id INTEGER, year_of_birth INTEGER);
            CREATE TABLE concept_ancestor (ancestor_concept_id INTEGER, descendant_concept_id INTEGER);
            CREATE TABLE measurement (person_id INTEGER, measurement_concept_id INTEGER, measurement_date TEXT,
                                      value_as_number REAL, value_as_concept_id INTEGER);
            INSERT INTO person VALUES (1, 1960), (2, 1955), (3, 1970);
            INSERT INTO concept_ancestor VALUES (36768255, 36768255), (36768255, 77), (4305235, 4305235);
            INSERT INTO measurement VALUES (1, 77, '2015-01-02', 22, NULL), (1, 36768255, '2019-01-02', 31, NULL),
                (1, 4305235, '2015-01-02', NULL, 9191), (2, 4305235, '2016-03-01', NULL, 9189),
                (2, 5, '2016-01-01', 9, 9);
            """
        )
    hospital.settings["tables"] = {"cdm": {"sql": query, "database": "sqlite:///cdm.db", "patient_id": "id"}}
    table = read_table(hospital.site(), "cdm", ["size_mm", "er"])
    assert table.patients == ("1", "2", "3")
    assert table.cells["size_mm"] == ("22", "", "")  # the first of two, by a descendant of the concept
    assert table.cells["er"] == ("9191", "9189", "")
