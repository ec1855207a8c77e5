"""Shapes of masks: tumours beside each other along the slices, and one whose slices are missing."""

import numpy as np

from client.imaging.mask_shape import shape_remark


def test_several_tumours_lack_no_slices_and_one_with_gaps_does():
    several = np.zeros((36, 40, 40), dtype=bool)
    for number in range(5):
        several[2 + 7 * number : 6 + 7 * number, 7 * number : 7 * number + 5, 4:10] = True
    assert shape_remark(several, (1.0, 1.0, 1.0)) == ""
    one = np.zeros((36, 40, 40), dtype=bool)
    one[4:20:2, 10:20, 10:20] = True
    assert "lacks slices" in shape_remark(one, (1.0, 1.0, 1.0))
