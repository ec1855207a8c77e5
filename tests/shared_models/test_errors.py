import pickle

import pytest

from client.errors import ExitCode as SiteExitCode
from client.errors import SiteError
from server.errors import CenterError
from server.errors import ExitCode as CenterExitCode
from server.study.exchange import StudyError
from shared_models.errors import UserError
from shared_models.settings import SettingsError

KINDS = [
    (SiteError, SiteExitCode.DATA),
    (CenterError, CenterExitCode.CONFIGURATION),
    (StudyError, CenterExitCode.RUN_FAILED),
    (SettingsError, CenterExitCode.CONFIGURATION),
]


@pytest.mark.parametrize(("kind", "exit_code"), KINDS)
def test_every_error_of_the_three_programs_reads_alike_and_has_an_exit_code(kind, exit_code):
    error = kind("it is wrong", where="a.csv", found="one\ntwo", expected="three", fix="mend it")
    assert str(error).splitlines() == [
        "it is wrong",
        "  where:    a.csv",
        "  found:    one",
        "            two",
        "  expected: three",
        "  to do:    mend it",
    ]
    assert error.summary == str(error).removesuffix("\n  to do:    mend it")
    assert error.exit_code == exit_code
    assert str(kind("it is wrong")) == "it is wrong"


@pytest.mark.parametrize("kind", [kind for kind, _ in KINDS])
def test_the_public_sentence_says_nothing_of_where_and_what_was_found_unless_it_is_given(kind):
    error = kind("secret-what", where="secret-where", found="secret-found", expected="secret-more", fix="secret-fix")
    assert error.public
    assert "secret" not in error.public
    assert kind("x", public="the site's keys need attention").public == "the site's keys need attention"


@pytest.mark.parametrize("kind", [kind for kind, _ in KINDS])
def test_an_error_of_another_process_is_the_same_error(kind):
    error = kind("what", where="where", found="found", expected="expected", fix="fix", public="public", exit_code=5)
    other = pickle.loads(pickle.dumps(error))
    assert (type(other), str(other), other.public, other.exit_code) == (kind, str(error), "public", 5)
    assert (other.where, other.found, other.expected, other.fix) == ("where", "found", "expected", "fix")


def test_a_file_name_cannot_move_the_terminals_cursor():
    assert str(UserError("no such file", where="a\x1b[2Jb\rc")) == "no such file\n  where:    a\\x1b[2Jb\\rc"
