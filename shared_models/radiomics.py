"""Names of radiomic features, as the tools that compute them write them."""

from __future__ import annotations

from collections.abc import Iterable

from shared_models.features import Feature, parse_features

# PyRadiomics' default features (van Griethuysen 2017, 10.1158/0008-5472.CAN-17-0339) by class. `:log` marks those
# whose skewness over the 2,699 lesions of TCIA's BCBM-RadioGenomics is above 3 and at most half of that after
# log(1 + x): most grow with the lesion's volume or with squared grey levels, and one large lesion would else
# set the scale of all others.
PYRADIOMICS: dict[str, tuple[str, ...]] = {
    "shape": (
        "Elongation", "Flatness", "LeastAxisLength", "MajorAxisLength", "Maximum2DDiameterColumn",
        "Maximum2DDiameterRow", "Maximum2DDiameterSlice", "Maximum3DDiameter", "MeshVolume:log", "MinorAxisLength",
        "Sphericity", "SurfaceArea:log", "SurfaceVolumeRatio", "VoxelVolume:log",
    ),
    "firstorder": (
        "10Percentile", "90Percentile", "Energy:log", "Entropy", "InterquartileRange", "Kurtosis:log", "Maximum",
        "MeanAbsoluteDeviation", "Mean", "Median", "Minimum", "Range", "RobustMeanAbsoluteDeviation",
        "RootMeanSquared", "Skewness", "TotalEnergy:log", "Uniformity", "Variance:log",
    ),
    "glcm": (
        "Autocorrelation:log", "ClusterProminence:log", "ClusterShade", "ClusterTendency:log", "Contrast:log",
        "Correlation", "DifferenceAverage", "DifferenceEntropy", "DifferenceVariance:log", "Id", "Idm", "Idmn", "Idn",
        "Imc1", "Imc2", "InverseVariance", "JointAverage", "JointEnergy", "JointEntropy", "MCC", "MaximumProbability",
        "SumAverage", "SumEntropy", "SumSquares:log",
    ),
    "gldm": (
        "DependenceEntropy", "DependenceNonUniformity:log", "DependenceNonUniformityNormalized", "DependenceVariance",
        "GrayLevelNonUniformity:log", "GrayLevelVariance:log", "HighGrayLevelEmphasis:log",
        "LargeDependenceEmphasis:log", "LargeDependenceHighGrayLevelEmphasis",
        "LargeDependenceLowGrayLevelEmphasis:log", "LowGrayLevelEmphasis", "SmallDependenceEmphasis",
        "SmallDependenceHighGrayLevelEmphasis:log", "SmallDependenceLowGrayLevelEmphasis",
    ),
    "glrlm": (
        "GrayLevelNonUniformity:log", "GrayLevelNonUniformityNormalized", "GrayLevelVariance:log",
        "HighGrayLevelRunEmphasis:log", "LongRunEmphasis:log", "LongRunHighGrayLevelEmphasis",
        "LongRunLowGrayLevelEmphasis:log", "LowGrayLevelRunEmphasis", "RunEntropy", "RunLengthNonUniformity:log",
        "RunLengthNonUniformityNormalized", "RunPercentage", "RunVariance:log", "ShortRunEmphasis",
        "ShortRunHighGrayLevelEmphasis:log", "ShortRunLowGrayLevelEmphasis",
    ),
    "glszm": (
        "GrayLevelNonUniformity:log", "GrayLevelNonUniformityNormalized", "GrayLevelVariance",
        "HighGrayLevelZoneEmphasis:log", "LargeAreaEmphasis:log", "LargeAreaHighGrayLevelEmphasis:log",
        "LargeAreaLowGrayLevelEmphasis:log", "LowGrayLevelZoneEmphasis", "SizeZoneNonUniformity:log",
        "SizeZoneNonUniformityNormalized", "SmallAreaEmphasis", "SmallAreaHighGrayLevelEmphasis:log",
        "SmallAreaLowGrayLevelEmphasis", "ZoneEntropy", "ZonePercentage", "ZoneVariance:log",
    ),
    "ngtdm": ("Busyness:log", "Coarseness", "Complexity:log", "Contrast", "Strength:log"),
}  # fmt: skip

# Duke-Breast-Cancer-MRI (Saha 2018, 10.1038/s41416-018-0185-8): volume and enhancement kinetics of the tumour.
DUKE_KINETICS = (
    "Volume_cu_mm_Tumor:log", "SER_Total_tumor_vol_cu_mm:log", "SER_Partial_tumor_vol_cu_mm:log",
    "SER_Washout_tumor_vol_cu_mm:log", "Peak_SER_tumor", "SER_map_mean_tumor", "SER_map_std_dev_tumor",
    "SER_map_Entropy_tumor", "WashinRate_map_mean_tumor",
)  # fmt: skip


def pyradiomics_features() -> tuple[Feature, ...]:
    """The 107 default features under PyRadiomics' names, such as `original_shape_Sphericity`."""
    return _features(f"original_{group}_{name}" for group, names in PYRADIOMICS.items() for name in names)


def duke_kinetics_features() -> tuple[Feature, ...]:
    """The 9 features under the names of the Duke sheet."""
    return _features(DUKE_KINETICS)


def _features(names: Iterable[str]) -> tuple[Feature, ...]:
    return parse_features(f"radiomics: {', '.join(names)}")["radiomics"]
