import doctest

import pytest

from shared_models import backoff
from shared_models.backoff import Backoff


def test_the_example_in_the_docstring_is_what_happens():
    ran = doctest.testmod(backoff)
    assert (ran.failed, ran.attempted > 0) == (0, True)


@pytest.mark.parametrize(("lived_s", "wait_s"), [(60.0, 4.0), (60.1, 1.0)])
def test_only_a_life_longer_than_the_healthy_one_starts_the_waits_anew(lived_s, wait_s):
    waits = Backoff(first_s=1.0, longest_s=30.0, healthy_s=60.0)
    waits.next(0.0)
    waits.next(0.0)
    assert waits.next(lived_s) == wait_s


def test_two_processes_do_not_share_their_waits():
    one, other = Backoff(1.0, 30.0, 60.0), Backoff(1.0, 30.0, 60.0)
    one.next(0.0)
    assert (one.next(0.0), other.next(0.0)) == (2.0, 1.0)
