import math
import subprocess
import sys

import pytest
from scipy.stats import binomtest

from shared_models.metrics.interval import Interval, exact_interval, logit_interval


def test_an_interval_reads_as_in_a_paper():
    assert str(Interval(0.8411, 0.7902, 0.8814)) == "0.84 (0.79-0.88)"
    assert str(Interval(0.8411, math.nan, math.nan)) == "0.84 (n/a)"
    assert str(Interval(math.nan, math.nan, math.nan)) == "n/a"


@pytest.mark.parametrize(("hits", "pairs"), [(0, 12), (5, 12), (12, 12), (1, 1)])
def test_exact_interval_equals_scipys_clopper_pearson(hits, pairs):
    expected = binomtest(hits, pairs).proportion_ci(0.95, method="exact")
    ours = exact_interval(hits / pairs, pairs, 0.95)
    assert (ours.low, ours.high) == pytest.approx((expected.low, expected.high))


def test_a_certificate_widens_both_sides_within_bounds():
    assert Interval(0.5, 0.25, 0.75).widened(0.125) == Interval(0.5, 0.125, 0.875)
    assert Interval(0.5, 0.1, 0.9).widened(0.5) == Interval(0.5, 0, 1)


def test_an_enormous_variance_leaves_everything_open():
    assert logit_interval(0.5, 1e300, 10, 0.95) == Interval(0.5, 0, 1)


def test_a_fresh_process_does_not_load_scipy_or_scikit_learn():
    modules = "binary, survival, calibration, regression, categorical, arrays"
    script = f"import sys; from shared_models.metrics import {modules}; print(sorted(sys.modules))"
    loaded = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    assert "'shared_models.metrics.survival'" in loaded
    assert not any(f"'{heavy}'" in loaded for heavy in ("scipy", "sklearn", "torch", "pandas"))
