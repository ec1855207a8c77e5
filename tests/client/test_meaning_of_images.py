"""Changes of meaning in a site's images: each must exclude a patient, be warned of, or leave the tensors alone."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
import yaml

from client.checks.counts import readiness
from client.config.site import load_site
from shared_models.study_settings import StudySettings
from shared_models.targets import Binary
from shared_models.task import Task, Volume
from tests.client.conftest import write_slice, write_volume
from tests.client.imaging.histology.test_tile_look import brown, compressed, enlarged, tissue

SHAPE, SPACING = (14, 44, 44), (3.0, 3.0, 6.0)  # as arrays, and along x, y, z in mm: 132 x 132 x 84
PATIENTS = ("P1", "P2", "P3")
SECONDS = (0, 90, 300)
Change = Callable[[Path], object]

READERS: dict[str, dict[str, Any]] = {
    "nifti": {
        "reader": "image_files",
        "phases": [f"nifti/{{patient}}/phase{phase}.nii.gz" for phase in range(3)],
        "seconds": list(SECONDS),
        "mask": "nifti/{patient}/mask.nii.gz",
        "laterality": "Side",
    },
    "dicom": {"reader": "dicom", "folder": "dicom/{patient}", "mask": "nifti/{patient}/mask.nii.gz"},
    "mammogram": {"reader": "mammogram", "images": "mammo/{patient}.dcm", "mask": "mammo/{patient}.png"},
    "tiles": {"reader": "tiles", "tiles": "tiles/{patient}/*.png"},
}
KINDS = {
    "nifti": Volume((4, 12, 16, 16), (4.0, 4.0, 4.0), tumour=True),
    "dicom": Volume((4, 12, 16, 16), (4.0, 4.0, 4.0), tumour=True),
    "mammogram": Volume((2, 1, 32, 32), (1.0, 1.0, 1.0), tumour=True),
    "tiles": Volume((3, 4, 48, 48), (1.0, 1.0, 1.0), tiles=True),
}


def breast(seed: int) -> tuple[list[np.ndarray], np.ndarray]:
    """Three phases of a breast whose tumour takes up contrast and loses a little, and its mask, as `SHAPE`."""
    draw = np.random.default_rng(seed)
    z, y, x = np.meshgrid(*[np.linspace(-1, 1, n) for n in SHAPE], indexing="ij")
    inside = (0.8 * x**2 + y**2 + z**2 < 0.8).astype(float)
    centre = draw.uniform(-0.25, 0.25, 3)
    tumour = ((x - centre[2]) ** 2 + (y - centre[1]) ** 2 + (z - centre[0]) ** 2) < 0.05
    before = inside * draw.normal(200, 20, SHAPE) + draw.uniform(2, 12, SHAPE)
    uptake = [1.0, 1.12, 1.15], [1.0, 2.3, 1.9]
    phases = [before * np.where(tumour, u, o) + draw.normal(0, 2, SHAPE) for o, u in zip(*uptake, strict=True)]
    return [np.abs(phase) for phase in phases], tumour


def write_dicom(folder: Path, phases: list[np.ndarray], **tags: Any) -> None:
    for number, phase in enumerate(phases):
        for index, image in enumerate(phase):
            second = 36000 + SECONDS[number]
            time = f"{second // 3600:02d}{second % 3600 // 60:02d}{second % 60:02d}"
            position = (0.0, 0.0, SPACING[2] * index)
            write_slice(
                folder / f"{number}-{index:02d}.dcm",
                image,
                position,
                **{
                    "PixelSpacing": list(SPACING[:2]),
                    "TemporalPositionIdentifier": number + 1,
                    "AcquisitionTime": time,
                    "InstanceNumber": 1 + index + len(phase) * number,
                    "PatientID": folder.name,
                    "StudyInstanceUID": f"1.2.3.{folder.name[1:]}",
                    **tags,
                },
            )


def write_mammogram(path: Path, seed: int) -> None:
    from PIL import Image
    from pydicom.uid import DigitalMammographyXRayImageStorageForPresentation as STORAGE

    draw = np.random.default_rng(seed)
    y, x = np.mgrid[0:240, 0:180]
    inside = (x / 150) ** 2 + ((y - 120) / 110) ** 2 < 1
    finding = (x - 60) ** 2 + (y - 100 - 10 * seed) ** 2 < 15**2
    image = inside * draw.normal(900, 60, x.shape) + 900 * finding
    tags = {
        **{"Modality": "MG", "SOPClassUID": STORAGE, "ImagePositionPatient": None, "ImageOrientationPatient": None},
        **{"ImagerPixelSpacing": [0.7, 0.7], "PixelSpacing": [0.7, 0.7], "ViewPosition": "CC", "ImageLaterality": "L"},
        **{"PresentationIntentType": "FOR PRESENTATION", "PixelIntensityRelationshipSign": -1},
    }
    write_slice(path, np.clip(image, 0, None), (0, 0, 0), **tags)
    Image.fromarray((255 * finding).astype(np.uint8)).save(path.with_suffix(".png"))


def write_tiles(folder: Path, seed: int) -> None:
    from PIL import Image

    folder.mkdir(parents=True)
    for number in range(4):
        Image.fromarray(tissue(10 * seed + number)).save(folder / f"{number}.png")


@pytest.fixture(scope="module")
def clean(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A site whose exams are of all kinds."""
    folder = tmp_path_factory.mktemp("clean")
    for number, patient in enumerate(PATIENTS):
        phases, tumour = breast(number)
        write_volume(folder / f"nifti/{patient}/mask.nii.gz", tumour, SPACING)
        for phase, array in enumerate(phases):
            write_volume(folder / f"nifti/{patient}/phase{phase}.nii.gz", array, SPACING)
        write_dicom(folder / f"dicom/{patient}", phases)
        (folder / "mammo").mkdir(exist_ok=True)
        write_mammogram(folder / f"mammo/{patient}.dcm", number)
        write_tiles(folder / "tiles" / patient, number)
    rows = [f"{patient},{number % 2},L" for number, patient in enumerate(PATIENTS)]
    (folder / "clinical.csv").write_text("\n".join(["ID,Relapse,Side", *rows]))
    return folder


def said_and_read(folder: Path, kind: str, **keys: Any) -> tuple[list[str], np.ndarray]:
    """Errors and warnings, and the volumes; a patient who is excluded is warned of."""
    settings = {
        **{"site": "s", "data_root": ".", "state_dir": "state", "workers": 1, "role": "evaluate"},
        "tables": {"clinical": {"file": "clinical.csv", "patient_id": "ID"}},
        "modalities": {"images": {**READERS[kind], **keys}},
        "targets": {"relapse": {"label": {"column": "Relapse", "codes": {0: 0, 1: 1}}}},
    }
    path = folder / f"{kind}.yaml"
    path.write_text(yaml.safe_dump(settings))
    task = Task({"images": KINDS[kind]}, {"relapse": Binary()}, build_model=lambda *_: None)  # type: ignore[arg-type, return-value]
    result = readiness(load_site(path), StudySettings(study="s"), task)
    warnings = [one.text for one in result.problems if one.severity != "note" and "part of the split" not in one.text]
    if result.cohort is None:
        return warnings, np.zeros(0)
    values = result.cohort.inputs["images"]
    return warnings, np.stack([np.asarray(values[row], dtype=float) for row in range(len(PATIENTS))])


def copied_to_another(kind: str, *, suffix: str = "") -> Change:
    """The third patient's images in place of the first one's."""

    def apply(folder: Path) -> None:
        source, target = (folder / kind / f"{patient}{suffix}" for patient in ("P3", "P1"))
        if source.is_dir():
            shutil.rmtree(target)
        (shutil.copytree if source.is_dir() else shutil.copy)(source, target)

    return apply


def image(path: Path) -> sitk.Image:
    return sitk.ReadImage(str(path))


def each(change: Callable[[sitk.Image], sitk.Image], *names: str) -> Change:
    """A change of the first two patients' NIfTI files of some names; of all where none is named."""

    def apply(folder: Path) -> None:
        for patient in PATIENTS[:2]:
            for path in sorted((folder / "nifti" / patient).glob("*.nii.gz")):
                if not names or path.name.removesuffix(".nii.gz") in names:
                    sitk.WriteImage(change(image(path)), str(path))

    return apply


def voxels(change: Callable[[np.ndarray], np.ndarray], *names: str) -> Change:
    def of(image: sitk.Image) -> sitk.Image:
        made = sitk.GetImageFromArray(change(sitk.GetArrayFromImage(image)).astype(np.float32))
        made.CopyInformation(image)
        return made

    return each(of, *names)


def header(*names: str, **parts: Any) -> Change:
    def of(image: sitk.Image) -> sitk.Image:
        for part, value in parts.items():
            getattr(image, f"Set{part}")(value(np.asarray(getattr(image, f"Get{part}")())).tolist())
        return image

    return each(of, *names)


def renamed(*pairs: tuple[str, str]) -> Change:
    """Files of the first two patients copied over others, by their names."""

    def apply(folder: Path) -> None:
        for patient in PATIENTS[:2]:
            place = folder / "nifti" / patient
            held = {source: (place / f"{source}.nii.gz").read_bytes() for source, _ in pairs}
            for source, target in pairs:
                (place / f"{target}.nii.gz").write_bytes(held[source])

    return apply


def subtracted(folder: Path) -> None:
    for patient in PATIENTS[:2]:
        place = folder / "nifti" / patient
        before = image(place / "phase0.nii.gz")
        for phase in (1, 2):
            path = place / f"phase{phase}.nii.gz"
            sitk.WriteImage(sitk.Subtract(image(path), before), str(path))


def of_others(name: str) -> Change:
    """A file of each patient in place of the next one's."""

    def apply(folder: Path) -> None:
        places = [folder / "nifti" / patient / f"{name}.nii.gz" for patient in PATIENTS]
        held = [place.read_bytes() for place in places]
        for place, content in zip(places, [*held[1:], held[0]], strict=True):
            place.write_bytes(content)

    return apply


def dicom(change: Callable[[Any], Any], phase: int | None = None, every: int = 1) -> Change:
    """A change of the headers of the first two patients' slices: of one phase, or of every n-th."""

    def apply(folder: Path) -> None:
        for patient in PATIENTS[:2]:
            for path in sorted((folder / "dicom" / patient).glob("*.dcm" if phase is None else f"{phase}-*.dcm"))[
                ::every
            ]:
                file = pydicom.dcmread(path)
                change(file)
                file.save_as(path)

    return apply


def tags(phase: int | None = None, every: int = 1, **values: Any) -> Change:
    def change(file: Any) -> None:
        for name, value in values.items():
            setattr(file, name, value(file) if callable(value) else value)

    return dicom(change, phase, every)


def scaled_pixels(factor: float, phase: int) -> Change:
    def change(file: Any) -> None:
        file.PixelData = (file.pixel_array * factor).astype(np.int16).tobytes()

    return dicom(change, phase)


def second_study(folder: Path) -> None:
    for number, patient in enumerate(PATIENTS[:2]):
        phases, _ = breast(20 + number)
        later = folder / "dicom" / patient / "later" / patient
        write_dicom(later, phases, StudyDate="20210301", StudyInstanceUID="1.2.9", SeriesInstanceUID="1.2.9.5")


def other_patients_slices(folder: Path) -> None:
    for patient in PATIENTS[:2]:
        for path in (folder / "dicom" / patient).glob("2-*.dcm"):
            shutil.copy(folder / "dicom" / "P3" / path.name, path)


def subtractions_beside(folder: Path) -> None:
    for number, patient in enumerate(PATIENTS[:2]):
        phases, _ = breast(number)
        difference = [phases[1] - phases[0], phases[2] - phases[0]]
        write_dicom(folder / "dicom" / patient / "sub" / patient, difference, SeriesInstanceUID="1.2.8", SeriesNumber=9,
                    ImageType=["DERIVED", "PRIMARY", "SUBTRACT"])  # fmt: skip


def mammogram(**values: Any) -> Change:
    def apply(folder: Path) -> None:
        for patient in PATIENTS[:2]:
            path = folder / "mammo" / f"{patient}.dcm"
            file = pydicom.dcmread(path)
            for name, value in values.items():
                setattr(file, name, value(file) if callable(value) else value)
            file.save_as(path)

    return apply


def picture(change: Callable[[np.ndarray], np.ndarray]) -> Change:
    def apply(folder: Path) -> None:
        from PIL import Image

        for patient in PATIENTS[:2]:
            path = folder / "mammo" / f"{patient}.png"
            Image.fromarray(change(np.asarray(Image.open(path)))).save(path)

    return apply


def one_slice(mask: np.ndarray) -> np.ndarray:
    """The slice of a mask that shows most of it."""
    most = mask.reshape(len(mask), -1).sum(axis=1).argmax()
    return mask * (np.arange(len(mask)) == most)[:, None, None]


def outline(mask: np.ndarray) -> np.ndarray:
    """The edge of a mask in each slice."""
    return mask * (1 - np.minimum.reduce([np.roll(mask, step, axis) for step in (-1, 1) for axis in (1, 2)]))


def levelled(phase: np.ndarray) -> np.ndarray:
    """Grey values of which each is as frequent as any other."""
    return phase.ravel().argsort().argsort().reshape(phase.shape) / phase.size * 255


def mammogram_pixels(change: Callable[[np.ndarray], np.ndarray]) -> Change:
    return mammogram(PixelData=lambda file: change(file.pixel_array.copy()).astype(np.int16).tobytes())


def written_on(pixels: np.ndarray) -> np.ndarray:
    """With letters on the breast."""
    for letter in range(6):
        left = 60 + 9 * letter
        pixels[100:114, left : left + 3] = pixels[100:103, left : left + 8] = 4000
    return pixels


def turned(folder: Path) -> None:
    """Mammograms turned by 90 degrees, and their masks."""
    picture(np.rot90)(folder)
    mammogram(PixelData=lambda file: np.ascontiguousarray(np.rot90(file.pixel_array)).tobytes())(folder)
    mammogram(Rows=180, Columns=240)(folder)


def cropped(folder: Path) -> None:
    """Parts of mammograms about the finding, and of their masks."""
    picture(lambda a: a[80:160, 20:120])(folder)
    mammogram(PixelData=lambda file: file.pixel_array[80:160, 20:120].tobytes())(folder)
    mammogram(Rows=80, Columns=100)(folder)


def modified_view(file: Any) -> list[Any]:
    view = pydicom.Dataset()
    view.CodeValue, view.ViewModifierCodeSequence = "399162004", [pydicom.Dataset()]
    return [view]


def tiles(change: Callable[[np.ndarray], np.ndarray]) -> Change:
    def apply(folder: Path) -> None:
        from PIL import Image

        for patient in PATIENTS[:2]:
            for path in sorted((folder / "tiles" / patient).glob("*.png")):
                Image.fromarray(np.ascontiguousarray(change(np.asarray(Image.open(path))))).save(path)

    return apply


def eroded(mask: sitk.Image) -> sitk.Image:
    smaller = sitk.BinaryErode(sitk.Cast(mask, sitk.sitkUInt8), [1, 1, 0], sitk.sitkBall, 0, 1)
    return sitk.Cast(smaller, sitk.sitkFloat32)


def open_part(mask: np.ndarray) -> np.ndarray:
    """A mask with as much again beside it."""
    return np.maximum(mask, np.roll(mask, 7, axis=1))


def normalised(phase: np.ndarray) -> np.ndarray:
    return 200 * phase / phase.mean()


def halves_exchanged(folder: Path) -> None:
    """The first seven slices before contrast in place of those after it."""
    for patient in PATIENTS[:2]:
        paths = [folder / "nifti" / patient / f"phase{phase}.nii.gz" for phase in (0, 1)]
        images = [image(path) for path in paths]
        for path, one, other in zip(paths, images, images[::-1], strict=True):
            one[:, :, :7] = other[:, :, :7]
            sitk.WriteImage(one, str(path))


def copied_with_rounding(folder: Path) -> None:
    for patient in PATIENTS[:2]:
        place = folder / "nifti" / patient
        rounded = sitk.Cast(sitk.Round(image(place / "phase1.nii.gz")), sitk.sitkFloat32)
        sitk.WriteImage(rounded, str(place / "phase2.nii.gz"))


def blocks(phase: np.ndarray) -> np.ndarray:
    """Each 8 by 8 voxels of a slice by their mean, for the most part."""
    rows, columns = (np.arange(size) // 8 * 8 + 4 for size in phase.shape[1:])
    from scipy.ndimage import uniform_filter

    coarse = uniform_filter(phase, (0, 8, 8))[:, np.minimum(rows, 43)][:, :, np.minimum(columns, 43)]
    return 0.1 * phase + 0.9 * coarse


def exchanged_bytes(file: Any) -> bytes:
    return file.pixel_array.astype("<i2").byteswap().tobytes()


def one_dye(pixels: np.ndarray) -> np.ndarray:
    """Haematoxylin alone, as separation of the stains leaves it."""
    amount = -np.log((pixels.astype(float) + 1) / 256).mean(axis=2, keepdims=True)
    return (255 * np.exp(-amount * np.array([1.2, 1.3, 0.5]))).astype(np.uint8)


ALL_PHASES = ("phase0", "phase1", "phase2")
CHANGES: dict[str, tuple[str, Change]] = {
    "tiles: inverted": ("tiles", tiles(lambda a: 255 - a)),
    "tiles: one dye": ("tiles", tiles(one_dye)),
    "tiles: four greys": ("tiles", tiles(lambda a: a // 64 * 64 + 32)),
    "mammogram: dead columns": ("mammogram", mammogram_pixels(lambda a: a * (np.arange(a.shape[1]) % 9 > 0))),
    "mammogram: a grey bar": (
        "mammogram",
        mammogram_pixels(lambda a: np.pad(a[9:], ((9, 0), (0, 0)), constant_values=500)),
    ),
    "DICOM: bytes exchanged": ("dicom", tags(PixelData=exchanged_bytes)),
    "each phase divided by its mean": ("nifti", voxels(normalised, *ALL_PHASES)),
    "a phase twice, rounded": ("nifti", copied_with_rounding),
    "pre-contrast on another gain": ("nifti", voxels(lambda a: 0.6 * a, "phase0")),
    "half of the slices before contrast exchanged": ("nifti", halves_exchanged),
    "odd slices after even ones": ("nifti", voxels(lambda a: np.concatenate([a[::2], a[1::2]]), *ALL_PHASES, "mask")),
    "each slice twice": ("nifti", voxels(lambda a: a[::2].repeat(2, axis=0), *ALL_PHASES)),
    "blocks of lossy compression": ("nifti", voxels(blocks, *ALL_PHASES)),
    "the mask and as much beside it": ("nifti", voxels(open_part, "mask")),
    "every other slice of the mask": ("nifti", voxels(lambda a: a * (np.arange(len(a)) % 2)[:, None, None], "mask")),
    "tiles: grey": ("tiles", tiles(lambda a: a.mean(axis=2, keepdims=True).astype(np.uint8).repeat(3, axis=2))),
    "tiles: red and blue exchanged": ("tiles", tiles(lambda a: a[..., ::-1])),
    "tiles: another stain": ("tiles", tiles(brown)),
    "tiles: glass": ("tiles", tiles(lambda a: np.full_like(a, 245))),
    "tiles: black": ("tiles", tiles(np.zeros_like)),
    "tiles: enlarged six times": ("tiles", tiles(enlarged)),
    "tiles: compressed to blocks": ("tiles", tiles(compressed)),
    "tiles: another patient's": ("tiles", copied_to_another("tiles")),
    "mammogram: turned by 90 degrees with its mask": ("mammogram", turned),
    "mammogram: a part of one": ("mammogram", cropped),
    "mammogram: a modified view": ("mammogram", mammogram(ViewCodeSequence=modified_view)),
    "mammogram: another view": ("mammogram", mammogram(ViewPosition="MLO")),
    "mammogram: computed from tomosynthesis": (
        "mammogram",
        mammogram(ImageType=["DERIVED", "PRIMARY", "TOMOSYNTHESIS", "GENERATED_2D"]),
    ),
    "mammogram: pixels twice as large": ("mammogram", mammogram(PixelSpacing=[1.6] * 2, ImagerPixelSpacing=[1.6] * 2)),
    "DICOM: another flip angle in one phase": (
        "dicom",
        lambda folder: [tags(FlipAngle=10)(folder), tags(1, FlipAngle=30)(folder)],
    ),
    "DICOM: a phase of another day": (
        "dicom",
        lambda folder: [tags(AcquisitionDate="20200101")(folder), tags(2, AcquisitionDate="20200401")(folder)],
    ),
    "DICOM: positions half as far apart": ("dicom", tags(SpacingBetweenSlices=2 * SPACING[2])),
    "DICOM: pixels that are not square": ("dicom", tags(PixelSpacing=[3.0, 4.2])),
    "DICOM: the slope of some slices of a phase lost": (
        "dicom",
        lambda folder: [tags(RescaleSlope=0.5, RescaleIntercept=0.0)(folder), tags(1, 5, RescaleSlope=1.0)(folder)],
    ),
    "half of the mask": (
        "nifti",
        voxels(lambda a: a * (np.indices(a.shape)[2] > np.median(np.argwhere(a)[:, 2])), "mask"),
    ),
    "the mask with specks": (
        "nifti",
        voxels(lambda a: np.maximum(a, np.random.default_rng(0).random(a.shape) > 0.998), "mask"),
    ),
    "the mask with a part where no tumour is": (
        "nifti",
        voxels(lambda a: np.maximum(a, np.roll(a, 16, axis=1)), "mask"),
    ),
    "a part of the tumour cut out": (
        "nifti",
        voxels(lambda a: a * ~((np.indices(a.shape)[2] > 20) & (np.indices(a.shape)[1] > 20)), *ALL_PHASES),
    ),
    "slices in another order": ("nifti", voxels(lambda a: np.concatenate([a[7:], a[:7]]), *ALL_PHASES, "mask")),
    "the root of one phase": ("nifti", voxels(lambda a: np.sqrt(a / a.max()) * a.max(), "phase1")),
    "the brightness of one phase corrected": (
        "nifti",
        voxels(lambda a: a * np.linspace(0.3, 2.5, a.shape[2]), "phase1"),
    ),
    "the mask eroded": ("nifti", each(eroded, "mask")),
    "DICOM: the slope of one phase lost": (
        "dicom",
        lambda folder: [tags(RescaleSlope=0.5, RescaleIntercept=0.0)(folder), tags(1, RescaleSlope=1.0)(folder)],
    ),
    "mammogram: letters on the breast": ("mammogram", mammogram_pixels(written_on)),
    "mammogram: a white frame": (
        "mammogram",
        mammogram_pixels(lambda a: np.pad(a[3:-3, 3:-3], 3, constant_values=4000)),
    ),
    "mammogram: grey values cut off": ("mammogram", mammogram_pixels(lambda a: np.clip((a - 300) / 3, 0, 255))),
    "the mask in one slice": ("nifti", voxels(one_slice, "mask")),
    "the mask as an outline": ("nifti", voxels(outline, "mask")),
    "grey values cut off": ("nifti", voxels(lambda a: np.minimum(a, 300), "phase0", "phase1", "phase2")),
    "eight grey values": ("nifti", voxels(lambda a: np.round(a / 64) * 64, "phase0", "phase1", "phase2")),
    "each phase standardised": ("nifti", voxels(lambda a: (a - a.mean()) / a.std(), "phase0", "phase1", "phase2")),
    "each phase equalised": ("nifti", voxels(levelled, "phase0", "phase1", "phase2")),
    "an image of another contrast as the first phase": (
        "nifti",
        voxels(lambda a: np.where(a > 30, 450 - a, a), "phase0"),
    ),
    "an empty slice among the others": (
        "nifti",
        voxels(lambda a: a * (np.arange(len(a)) != 6)[:, None, None], "phase0", "phase1", "phase2"),
    ),
    "DICOM: headers of another patient of the site": (
        "dicom",
        tags(PatientID=lambda file: {"P1": "P2", "P2": "P1"}[file.PatientID], PixelSpacing=[3.1, 3.1]),
    ),
    "mammogram: magnified": ("mammogram", mammogram(EstimatedRadiographicMagnificationFactor=1.8)),
    "phases in reverse": ("nifti", renamed(("phase0", "phase2"), ("phase2", "phase0"))),
    "pre-contrast in the middle": ("nifti", renamed(("phase0", "phase1"), ("phase1", "phase0"))),
    "pre-contrast missing, later phases moved up": ("nifti", renamed(("phase1", "phase0"), ("phase2", "phase1"))),
    "a phase twice": ("nifti", renamed(("phase1", "phase2"))),
    "pre-contrast in all phases": ("nifti", renamed(("phase0", "phase1"), ("phase0", "phase2"))),
    "subtractions in place of later phases": ("nifti", subtracted),
    "a phase on ten times the scale": ("nifti", voxels(lambda a: 10 * a, "phase1")),
    "a phase on half the scale": ("nifti", voxels(lambda a: a / 2, "phase2")),
    "each phase from 0 to 255": ("nifti", voxels(lambda a: 255 * a / a.max(), "phase0", "phase1", "phase2")),
    "a phase with 1024 added": ("nifti", voxels(lambda a: a + 1024, "phase1")),
    "a phase inverted": ("nifti", voxels(lambda a: a.max() - a, "phase2")),
    "all phases on another scale": ("nifti", voxels(lambda a: 7 * a, "phase0", "phase1", "phase2")),
    "spacing in cm": ("nifti", header(Spacing=lambda s: s / 10, Origin=lambda o: o / 10)),
    "spacing in m": ("nifti", header(Spacing=lambda s: s / 1000)),
    "spacing of 1 mm for all": ("nifti", header(Spacing=lambda s: s * 0 + 1)),
    "a phase turned round": ("nifti", header("phase1", Direction=lambda d: -d)),
    "the images' header turned round, and not the mask's": (
        "nifti",
        header("phase0", "phase1", "phase2", Direction=lambda d: d * [-1, 1, 1, 1, 1, 1, 1, 1, 1]),
    ),
    "the mask's origin lost": ("nifti", header("mask", Origin=lambda o: o - 60)),
    "the mask's spacing lost": ("nifti", header("mask", Spacing=lambda s: s * 0 + 1)),
    "the mask upside down": ("nifti", voxels(lambda a: a[::-1, ::-1], "mask")),
    "the mask shifted by 40 mm": ("nifti", voxels(lambda a: np.roll(a, 13, axis=2), "mask")),
    "the mask inverted": ("nifti", voxels(lambda a: 1 - a, "mask")),
    "the mask with a second label": ("nifti", voxels(lambda a: a + 2 * np.roll(a, 9, axis=1) * (a == 0), "mask")),
    "the mask of value 255": ("nifti", voxels(lambda a: 255 * a, "mask")),
    "the mask as probabilities": ("nifti", voxels(lambda a: 0.9 * a + 0.01, "mask")),
    "the mask of the breast": ("nifti", voxels(lambda a: np.roll(a, 0) + (np.indices(a.shape)[1] > 18), "mask")),
    "the mask of the next patient": ("nifti", of_others("mask")),
    "an image in place of the mask": ("nifti", renamed(("phase1", "mask"))),
    "a phase of the next patient": ("nifti", of_others("phase2")),
    "a patient under two identifiers": ("nifti", copied_to_another("nifti")),
    "DICOM: a patient under two identifiers": ("dicom", copied_to_another("dicom")),
    "a patient under two identifiers, on another scale": (
        "nifti",
        lambda folder: [copied_to_another("nifti")(folder), voxels(lambda a: 3 * a, *ALL_PHASES)(folder)],
    ),
    "mammogram: a patient under two identifiers": ("mammogram", copied_to_another("mammo", suffix=".dcm")),
    "a phase that overflowed": ("nifti", voxels(lambda a: np.where(a > 350, a - 700, a), "phase1")),
    "a phase moved by 9 mm": ("nifti", voxels(lambda a: np.roll(a, 3, axis=1), "phase2")),
    "padding of zeros": (
        "nifti",
        each(lambda i: sitk.ConstantPad(i, [30, 30, 0], [30, 30, 0]), "phase0", "phase1", "phase2", "mask"),
    ),
    "DICOM: two exams of one patient": ("dicom", second_study),
    "DICOM: subtractions beside the originals": ("dicom", subtractions_beside),
    "DICOM: all images derived": ("dicom", tags(ImageType=["DERIVED", "PRIMARY", "SUBTRACT"])),
    "DICOM: pixel spacing in cm": ("dicom", tags(PixelSpacing=[0.3, 0.3])),
    "DICOM: a phase on another scale": ("dicom", scaled_pixels(0.2, 1)),
    "DICOM: a phase with another rescale slope": ("dicom", tags(1, RescaleSlope=4.0, RescaleIntercept=0.0)),
    "DICOM: temporal positions in reverse": (
        "dicom",
        tags(TemporalPositionIdentifier=lambda file: 4 - file.TemporalPositionIdentifier),
    ),
    "DICOM: water and fat": ("dicom", tags(2, ImageType=["ORIGINAL", "PRIMARY", "M", "FAT"])),
    "DICOM: two echoes": ("dicom", tags(1, EchoNumbers=2)),
    "DICOM: times of an export": (
        "dicom",
        tags(AcquisitionTime=lambda file: f"1000{file.TemporalPositionIdentifier:02d}"),
    ),
    "DICOM: a slice turned": ("dicom", tags(1, 5, ImageOrientationPatient=[-1, 0, 0, 0, 1, 0])),
    "DICOM: slices of another patient": ("dicom", other_patients_slices),
    "DICOM: instance numbers in reverse": ("dicom", tags(InstanceNumber=lambda file: 999 - file.InstanceNumber)),
    "DICOM: the pre-contrast phase missing": (
        "dicom",
        lambda folder: [path.unlink() for path in folder.glob("dicom/P[12]/0-*.dcm")] and None,
    ),
    "mammogram: pixel size in cm": ("mammogram", mammogram(PixelSpacing=[0.07] * 2, ImagerPixelSpacing=[0.07] * 2)),
    "mammogram: pixel size in tenths of a mm": ("mammogram", mammogram(PixelSpacing=[7.0] * 2)),
    "mammogram: inverted": ("mammogram", mammogram(PhotometricInterpretation="MONOCHROME1")),
    "mammogram: raw ones among the processed": ("mammogram", mammogram(PresentationIntentType="FOR PROCESSING")),
    "mammogram: the mask inverted": ("mammogram", picture(lambda a: 255 - a)),
    "mammogram: the mask upside down": ("mammogram", picture(lambda a: a[::-1].copy())),
    "mammogram: the mask of another shape": ("mammogram", picture(lambda a: a[:, :90].copy())),
    "mammogram: a mask of value 1": ("mammogram", picture(lambda a: a // 255)),
}
QUICK = (
    "phases in reverse",
    "a patient under two identifiers",
    "a phase twice",
    "mammogram: the mask inverted",
    "tiles: red and blue exchanged",
)


@pytest.fixture(scope="module")
def expected() -> dict[str, tuple[list[str], np.ndarray]]:
    return {}


def clean_tensors(kind: str, clean: Path, expected: dict[str, tuple[list[str], np.ndarray]]) -> np.ndarray:
    if kind not in expected:
        expected[kind] = said_and_read(clean, kind)
    warnings, values = expected[kind]
    assert warnings == []
    return values


@pytest.mark.parametrize(
    "change", [pytest.param(one, marks=() if one in QUICK else pytest.mark.slow) for one in CHANGES]
)
def test_no_change_of_meaning_is_silent(
    change: str, clean: Path, expected: dict[str, tuple[list[str], np.ndarray]], tmp_path: Path
) -> None:
    kind, apply = CHANGES[change]
    right = clean_tensors(kind, clean, expected)
    folder = tmp_path / "site"
    parts = {"nifti": ("nifti",), "dicom": ("nifti", "dicom"), "mammogram": ("mammo",), "tiles": ("tiles",)}
    names = parts[kind]
    for name in names:
        shutil.copytree(clean / name, folder / name)
    shutil.copy(clean / "clinical.csv", folder)
    apply(folder)
    warnings, values = said_and_read(folder, kind)
    assert warnings or np.allclose(values, right, atol=0.02, rtol=0.01), np.abs(values - right).max()


def test_times_of_an_exam_in_minutes_are_told(clean: Path, tmp_path: Path) -> None:
    shutil.copytree(clean / "nifti", tmp_path / "nifti")
    shutil.copy(clean / "clinical.csv", tmp_path)
    warnings, _ = said_and_read(tmp_path, "nifti", seconds=[0, 1.5, 5])
    assert warnings == [
        "modalities.images: 3 exams: all phases are within 20 s; check their times: are they in minutes?"
    ]


def test_a_file_of_all_phases_is_an_exam(clean: Path, expected: dict[str, Any], tmp_path: Path) -> None:
    right = clean_tensors("nifti", clean, expected)
    folder = tmp_path / "site"
    shutil.copytree(clean / "nifti", folder / "nifti")
    shutil.copy(clean / "clinical.csv", folder)
    for patient in PATIENTS:
        place = folder / "nifti" / patient
        joined = sitk.JoinSeries([image(place / f"phase{phase}.nii.gz") for phase in range(3)], 0.0, 90.0)
        sitk.WriteImage(joined, str(place / "dyn.nii.gz"))
    warnings, values = said_and_read(folder, "nifti", phases=["nifti/{patient}/dyn.nii.gz"])
    assert warnings == []
    np.testing.assert_allclose(values, right, atol=1e-3)
