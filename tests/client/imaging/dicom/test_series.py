"""Which of a patient's DICOM files are the phases of the dynamic exam, in which order, and when."""

import numpy as np
import pydicom
import pytest
from pydicom.uid import generate_uid

from client.errors import ExitCode, SiteError
from client.imaging.dicom.exam_choice import Wanted
from client.imaging.dicom.header_values import time_of_day_s
from client.imaging.dicom.series import dynamic_phases
from client.imaging.dicom.slice_headers import read_slices

SLICES = 5
TIMES = ("101500", "101630", "101800.5")
CLOCK = {"AcquisitionTime": TIMES, "ContentTime": ("111500", "111700", "111900"), "TriggerTime": (0, 80000, 160000)}


@pytest.fixture
def series(tmp_path, slice_file):
    """Writes a series of phases; a slice's voxels are 100 times its phase, plus its position in slices."""

    def write(phases=3, name="a", marks=None, omit=(), slices=SLICES, **tags):
        for phase in range(phases):
            for place in range(slices):
                if (phase, place) in omit:
                    continue
                own = {key: values[phase] for key, values in (marks or {}).items()}
                voxels = np.full((4, 6), 100 * phase + place)
                path = tmp_path / name / f"{phase}-{place}.dcm"
                given = {"InstanceNumber": phase * slices + place + 1, **own, **tags}
                slice_file(path, voxels, (-10, -20, 3 * place), **given)
        return tmp_path

    return write


def phases_in(folder, expression=None):
    """What stands where, as `(phase of the file, place of the file)`, and the seconds."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    files = [files[index] for index in np.random.default_rng(0).permutation(len(files))]
    phases, seconds, _ = dynamic_phases(read_slices(files), Wanted(expression), folder)
    return [[tuple(map(int, slice_.path.stem.split("-"))) for slice_ in phase] for phase in phases], seconds


def whole(phases, slices=SLICES):
    return [[(phase, place) for place in range(slices)] for phase in range(phases)]


@pytest.mark.parametrize(
    "marks",
    [
        {"TemporalPositionIdentifier": (1, 2, 3)},
        {"AcquisitionNumber": (1, 2, 3)},
        {"TriggerTime": (0, 80000, 160000)},
        {"AcquisitionTime": TIMES},
        {"ContentTime": TIMES},
        {},
        # as a GE scanner of 1991 counts: the first phase is 1, all later ones 2
        {"AcquisitionNumber": (1, 2, 2), "ContentTime": TIMES},
        {"AcquisitionNumber": (1, 1, 1), "TemporalPositionIdentifier": (1, 1, 1), "AcquisitionTime": TIMES},
    ],
    ids=lambda marks: "+".join(marks) or "InstanceNumber",
)
def test_phases_of_one_series_are_told_apart_by_the_first_number_that_does(series, marks):
    phases, _ = phases_in(series(marks=marks))
    assert phases == whole(3)


def test_a_time_of_its_own_for_each_slice_is_no_obstacle(series, tmp_path, slice_file):
    for phase in range(2):
        for place in range(SLICES):
            time = f"10{phase:02d}{place:02d}"
            slice_file(tmp_path / f"{phase}-{place}.dcm", np.ones((4, 6)), (0, 0, place), AcquisitionTime=time)
    assert phases_in(tmp_path) == (whole(2), (0.0, 60.0))


@pytest.mark.parametrize(
    ("clocks", "seconds"),
    [
        (["AcquisitionTime", "ContentTime", "TriggerTime"], (0.0, 90.0, 180.5)),
        (["ContentTime", "TriggerTime"], (0.0, 80.0, 160.0)),
        (["ContentTime"], (0.0, 120.0, 240.0)),
        ([], None),
    ],
)
def test_the_times_of_the_phases(series, clocks, seconds):
    marks = {"TemporalPositionIdentifier": (1, 2, 3)} | {clock: CLOCK[clock] for clock in clocks}
    assert phases_in(series(marks=marks))[1] == seconds


def test_midnight_is_crossed(series):
    phases, seconds = phases_in(series(marks={"AcquisitionTime": ("235900", "000030", "000200")}))
    assert phases == whole(3)
    assert seconds == (0.0, 90.0, 180.0)


def test_a_clock_that_contradicts_the_phases_is_not_believed(series):
    marks = {"TemporalPositionIdentifier": (1, 2, 3), "AcquisitionTime": ("100200", "100100", "100000")}
    assert phases_in(series(marks=marks)) == (whole(3), None)


def test_several_series_are_phases_in_the_order_of_time(tmp_path, slice_file):
    for phase, (number, time) in enumerate([(9, "100000"), (3, "100130"), (5, "100300")]):
        for place in range(SLICES):
            tags = {"SeriesInstanceUID": f"1.2.{number}", "SeriesNumber": number, "AcquisitionTime": time}
            slice_file(tmp_path / f"{phase}-{place}.dcm", np.ones((4, 6)), (0, 0, place), **tags)
    assert phases_in(tmp_path, "(?i)DYN") == (whole(3), (0.0, 90.0, 180.0))
    with pytest.raises(SiteError, match="not clear which series"):
        phases_in(tmp_path)


def test_series_without_times_stand_by_their_numbers(series, tmp_path):
    for number, name in enumerate(("pre", "post")):
        series(1, name, SeriesInstanceUID=f"1.2.{number}", SeriesNumber=number, SeriesDescription=f"dyn {name}")
    files = [
        phase[0].path.parent.name
        for phase in dynamic_phases(read_slices(tmp_path.rglob("*.dcm")), Wanted("dyn"), tmp_path)[0]
    ]
    assert files == ["pre", "post"]


def test_what_is_not_the_dynamic_series_is_left_alone(series, tmp_path):
    series()
    series(1, "t2", SeriesInstanceUID="1.3", SeriesDescription="t2 tse")
    series(3, "sub", SeriesInstanceUID="1.4", SeriesDescription="t1 dyn sub", ImageType=["DERIVED", "SECONDARY"])
    series(2, "ct", SeriesInstanceUID="1.5", Modality="CT")
    series(2, "placeless", SeriesInstanceUID="1.6", ImagePositionPatient=None)
    (tmp_path / "report.pdf").write_bytes(b"%PDF")
    (tmp_path / "empty.dcm").touch()
    assert phases_in(tmp_path)[0] == whole(3)
    assert phases_in(tmp_path, "t1 dyn")[0] == whole(3)


@pytest.mark.parametrize("expression", [None, "t1"])
def test_it_must_be_clear_which_series(series, tmp_path, expression):
    series(2)
    series(2, "b", SeriesInstanceUID="1.9", SeriesDescription="t1 vibe", ProtocolName="breast")
    if expression is None:
        with pytest.raises(SiteError) as caught:
            phases_in(tmp_path)
        for part in ("'t1 dyn' (10 images)", "'t1 vibe / breast' (10 images)", "set `series`"):
            assert part in str(caught.value)
        assert caught.value.exit_code is ExitCode.DATA
        assert "t1" not in caught.value.public
    else:
        assert len(phases_in(tmp_path, "^breast$")[0]) == 2
        with pytest.raises(SiteError, match="no series fits `series`"):
            phases_in(tmp_path, "flash")


def test_a_folder_without_images(tmp_path):
    (tmp_path / "a.txt").touch()
    with pytest.raises(SiteError, match="there is no MR series"):
        phases_in(tmp_path)


def test_an_exam_that_was_exported_twice_is_used_once(series, tmp_path):
    folder = series()
    for path in list(folder.rglob("*.dcm")):
        header = pydicom.dcmread(path)
        header.SOPInstanceUID, header.SeriesInstanceUID = generate_uid(), "1.2.99"
        header.save_as(path.with_name(f"9-{path.name}"))
    dynamic = dynamic_phases(read_slices(sorted(folder.rglob("*.dcm"))), Wanted(), folder)
    assert [len(phase) for phase in dynamic.phases] == [SLICES] * 3
    assert dynamic.remarks == ("images that were exported twice are used once",)


def two_visits(series):
    series(name="b", SeriesInstanceUID="1.2.6", StudyInstanceUID="1.2.9", StudyDate="20200610", marks=CLOCK)
    return series(marks={**CLOCK, "AcquisitionTime": ("151500", "151630", "151800")})


def test_of_two_exams_the_site_says_which(series):
    folder = two_visits(series)
    for study, name in (("first", "a"), ("last", "b")):
        dynamic = dynamic_phases(read_slices(folder.rglob("*.dcm")), Wanted(study=study), folder)
        assert {slice_.path.parent.name for phase in dynamic.phases for slice_ in phase} == {name}
    with pytest.raises(SiteError, match="2020-01-01 and 2020-06-10"):
        phases_in(folder)


@pytest.mark.parametrize("series_names", [None, "dyn"])
def test_images_of_several_kinds_are_no_phases(series, series_names):
    for name, kind in (("a", "W"), ("b", "F")):
        marks = {"TemporalPositionIdentifier": (1, 2, 3)}
        series(name=name, marks=marks, ImageType=["ORIGINAL", "PRIMARY", kind], ComplexImageComponent="MAGNITUDE")
    folder = series(name="c", SeriesInstanceUID="1.2.7", ImageType=["ORIGINAL", "PRIMARY", "M", "SUB"])
    with pytest.raises(SiteError, match=r"F\\MAGNITUDE \(15 images\); W\\MAGNITUDE \(15 images\)"):
        dynamic_phases(read_slices(folder.rglob("*.dcm")), Wanted(series_names), folder)
    dynamic = dynamic_phases(read_slices(folder.rglob("*.dcm")), Wanted(series_names, "w"), folder)
    assert {slice_.path.parent.name for phase in dynamic.phases for slice_ in phase} == {"a"}


def test_two_images_in_one_temporal_position_are_refused(series):
    folder = series(marks={"TemporalPositionIdentifier": (1, 1, 2), "AcquisitionTime": TIMES})
    with pytest.raises(SiteError, match="two images are in one temporal position"):
        phases_in(folder)


def test_both_breasts_in_one_series_are_named(series):
    with pytest.raises(SiteError, match="two stacks of slices"):
        phases_in(series(slices=40, omit=[(phase, place) for phase in range(3) for place in range(15, 25)]))


@pytest.mark.parametrize("times", [("100000", "100001", "100002"), ("100000", "100100", "113000")])
def test_times_that_no_exam_has_are_unknown(series, times):
    folder = series(marks={"TemporalPositionIdentifier": (1, 2, 3), "AcquisitionTime": times})
    dynamic = dynamic_phases(read_slices(folder.rglob("*.dcm")), Wanted(), folder)
    assert dynamic.seconds is None
    assert "`seconds`" in dynamic.remarks[0]


def test_a_content_time_for_each_slice_is_an_exports(tmp_path, slice_file):
    for phase in range(3):
        for place in range(SLICES):
            tags = {"TemporalPositionIdentifier": phase + 1, "ContentTime": f"10{phase:02}{place:02}"}
            slice_file(tmp_path / f"{phase}-{place}.dcm", np.ones((4, 6)), (0, 0, place), **tags)
    dynamic = dynamic_phases(read_slices(tmp_path.iterdir()), Wanted(), tmp_path)
    assert dynamic.seconds is None
    assert "ContentTime" in dynamic.remarks[0]


def test_an_earlier_series_of_its_own_on_the_same_grid_is_named(series):
    series(1, "pre", SeriesInstanceUID="1.2.8", SeriesDescription="t1 pre", AcquisitionTime="095500", SeriesNumber=4)
    folder = series(marks={"TemporalPositionIdentifier": (1, 2, 3), "AcquisitionTime": TIMES})
    (remark,) = dynamic_phases(read_slices(folder.rglob("*.dcm")), Wanted(), folder).remarks
    assert "'t1 pre'" in remark
    assert not dynamic_phases(read_slices(folder.rglob("*.dcm")), Wanted("t1"), folder).remarks


def twice(folder, slice_file):
    slice_file(folder / "0-9.dcm", np.full((4, 6), 7), (-10, -20, 3), InstanceNumber=2)


def all_twice(folder, slice_file):
    for path in list(folder.rglob("*.dcm")):
        path.with_name(f"9-{path.name}").write_bytes(path.read_bytes()[:-1] + b"x")


def another(**tags):
    def spoil(folder, slice_file):
        slice_file(folder / "a/1-1.dcm", np.ones(tags.pop("shape", (4, 6))), (-10, -20, 3), **tags)

    return spoil


@pytest.mark.parametrize(
    ("omit", "spoil", "message"),
    [
        (
            [(2, 3)],
            None,
            ["slices are missing, or phases", "2 images at 9.0 mm", "1 of 5 positions", "3 images at each"],
        ),
        ([(0, 2), (1, 2), (2, 2)], None, ["1 slices are missing", "6.00 mm from the slice at 3.0 mm", "3.00 mm"]),
        ([], twice, ["duplicate slices", "4 images at 3.0 mm"]),
        ([], all_twice, ["duplicate slices", "no header tells apart"]),
        ([], another(shape=(4, 7)), ["differ in size", "(4, 7) in 1 of 15"]),
        ([], another(PixelSpacing=[2, 1.5]), ["differ in spacing", "1.5"]),
        ([], another(ImageOrientationPatient=[0, 1, 0, 0, 0, -1]), ["differ in orientation"]),
        ([], another(BitsAllocated=7), ["slices are missing, or phases", "2 images at 3.0 mm"]),
        ([], another(NumberOfFrames=2_000_000_000), ["slices are missing, or phases", "2 images at 3.0 mm"]),
    ],
)
def test_a_series_that_is_not_whole(series, slice_file, omit, spoil, message):
    folder = series(omit=omit)
    if spoil:
        spoil(folder, slice_file)
    with pytest.raises(SiteError) as caught:
        phases_in(folder)
    for part in [*message, ".dcm", "to do"]:
        assert part in str(caught.value)
    assert "dcm" not in caught.value.public


@pytest.mark.parametrize(
    ("position", "message"),
    [((0, 0, 4.9), "not evenly spaced"), ((4, 0, 6), "not stacked along their normal")],
)
def test_a_crooked_stack(tmp_path, slice_file, position, message):
    for place in range(6):
        slice_file(tmp_path / f"0-{place}.dcm", np.ones((4, 6)), position if place == 2 else (0, 0, 3 * place))
    with pytest.raises(SiteError, match=message):
        phases_in(tmp_path)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda content: content[:300], "slices are missing"),
        (lambda content: content.replace(b"-10.0\\-20.0\\6.0", b"somewhere\\x\\yyy"), "header cannot be read"),
        (lambda content: content.replace(b"-10.0\\-20.0\\6.0", b"-10.0\\-20.0-6.0"), "header cannot be read"),
    ],
)
def test_a_header_cut_short_or_full_of_rubbish(series, tmp_path, spoil, message):
    path = series(1) / "a/0-2.dcm"
    path.write_bytes(spoil(path.read_bytes()))
    with pytest.raises(SiteError, match=message):
        phases_in(tmp_path)


def test_times_of_day():
    assert time_of_day_s("101500.25") == 36900.25
    assert time_of_day_s("10:15:00") == 36900
    assert time_of_day_s("") is None
    assert time_of_day_s("noon") is None
