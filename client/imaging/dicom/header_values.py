"""Values of a DICOM header, as they are compared and computed with."""

from __future__ import annotations

import math
import re
import struct
from typing import Any

# Philips' private dictionary: what the stored values are to be divided by, and where an enhanced file has it
PHILIPS, SCALE_SLOPE, PHILIPS_FRAME = (0x2005, 0x0010), (0x2005, 0x100E), (0x2005, 0x140F)
# In ImageType: computed from other images, whatever its first value says
_COMPUTED = {
    "SUB",
    "SUBTRACT",
    "SUBTRACTION",
    "MIP",
    "MPR",
    "MINIP",
    "PROJECTION IMAGE",
    "MAX_IP",
    "MIN_IP",
    "DIFFERENCE",
}


def is_original(types: Any) -> bool:
    """Whether ImageType or FrameType names no image that was computed from others."""
    values = {str(value).upper() for value in types or ()}
    return "DERIVED" not in values and not values & _COMPUTED


def image_kind(types: Any, component: Any, echo: Any) -> str:
    """ImageType or FrameType from its third value on, which part of a complex image it is, and the echo."""
    values = [str(value).upper() for value in (types or ())[2:]]
    if component and str(component).upper()[:1] not in {value[:1] for value in values}:
        values.append(str(component).upper())
    return "\\".join([*dict.fromkeys(values), *([f"echo {echo}"] if echo not in (None, "") else [])])


def pulse_sequence(kind: Any, timing: Any, echo: Any) -> tuple[str, ...]:
    """Scanning sequence, echo and repetition time in ms, and flip angle; empty texts for what is not said."""
    items = (
        kind.get("ScanningSequence"),
        echo.get("EchoTime") or echo.get("EffectiveEchoTime"),
        timing.get("RepetitionTime"),
        timing.get("FlipAngle"),
    )
    return tuple("" if value in (None, "") else str(value) for value in items)


def true_slope(header: Any, slope: float) -> float | None:
    """What the values after slope and intercept are to be divided by; None where unknown.

    Philips divides by a scale of its own before it writes: Chenevert 2014, 10.1593/tlo.13811.

    Raises:
        ValueError: If that scale is not a number above 0.
    """
    element = header.get(SCALE_SLOPE)
    if element is None or "PHILIPS" not in str(getattr(header.get(PHILIPS), "value", "")).upper():
        return None
    value = element.value
    value = struct.unpack("<f", value)[0] if isinstance(value, bytes) and len(value) == 4 else float(value)
    if not math.isfinite(value) or value <= 0:
        msg = f"the private scale slope is {value}"
        raise ValueError(msg)
    return float(slope * value)


def placement(position: Any, axes: Any, spacing: Any) -> dict[str, Any]:
    """Where a slice lies: `position_mm`, `axes` and `spacing_mm`.

    Raises:
        ValueError: If they are not three, six and two numbers.
    """
    place = {
        "position_mm": tuple(map(float, position["ImagePositionPatient"].value)),
        "axes": tuple(map(float, axes["ImageOrientationPatient"].value)),
        "spacing_mm": tuple(map(float, spacing["PixelSpacing"].value)),
    }
    if [len(values) for values in place.values()] != [3, 6, 2]:
        msg = f"position, orientation and spacing are {place}"
        raise ValueError(msg)
    return place


def integer(value: Any) -> int | None:
    """A whole number; None where nothing is said."""
    return None if value in (None, "") else int(value)


def length_mm(value: Any) -> float | None:
    """A length; None where nothing is said. Some scanners write it with a sign."""
    return None if value in (None, "") else abs(float(value))


def seconds_of_ms(value: Any) -> float | None:
    """Seconds; None where nothing is said."""
    return None if value in (None, "") else float(value) / 1000


def time_of_day_s(text: Any) -> float | None:
    """Seconds since midnight of a DICOM time `HHMMSS.FFFFFF`; None where there is none."""
    match = re.match(r"(\d\d):?(\d\d):?(\d\d(?:\.\d+)?)", str(text or ""))
    return 3600 * int(match[1]) + 60 * int(match[2]) + float(match[3]) if match else None
