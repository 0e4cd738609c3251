"""The area of the template that a face fills."""

from __future__ import annotations

import pytest

from engines.contract import TEMPLATE
from occlufix_vcam.stages.geometry import face_area


def test_the_face_area_is_inside_the_crop_and_holds_the_landmarks():
    area = face_area()
    assert all(area[round(float(y)), round(float(x))] == 255 for x, y in TEMPLATE)
    assert not area[0].any() and not area[-1].any()
    with pytest.raises(ValueError, match="read-only"):
        area[:] = 0
