"""Federation client of a hospital: everything that touches patients."""

import sys

# `python -m` looks into the current folder first, where a stranger's packages may lie: shared_models/installation.py.
if sys.argv[:1] == ["-m"] and not sys.flags.safe_path and __path__ != [f"{sys.path[0]}/{__name__}"]:
    del sys.path[0]
