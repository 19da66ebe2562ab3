"""The contract of client, server and training as code: numpy only.

`make configs` renders these files, byte for byte, into each model folder of `model_repository/`
that needs them: edit them here, never there. So they import nothing but each other (relatively),
numpy 1.26 or 2 and the standard library of Python 3.10.

===============  ===================================================================
`schema`         `contract.json`, `limits.json`, `releases.json`: fields, validation
`classes`        the classes of the label map by name; density of healthy lung
`windows`        boxes, windows, tiling; what a window on the wire must be
`blending`       weight of each voxel of a window where windows overlap
`score`          DL-ILD and zones
`tensors`        names, types and shapes of the tensors on the wire
`refusals`       what a server answers instead of a score
`result`         fields of `result.json`
`weights`        whether the files that a server loads are those that were released
`errors`         what these modules raise
===============  ===================================================================
"""

from pkgutil import extend_path

from .errors import ContractError
from .schema import (
    SCHEMA_VERSION,
    Code,
    Contract,
    GridSpec,
    HuRange,
    LabelClass,
    ModelInfo,
    ProfileSpec,
    Release,
    Releases,
    Repeatability,
    RepeatabilityCoefficient,
    ScanLimits,
    ScoreSpec,
    ServerLimits,
    WindowSpec,
    parse_contract,
    parse_limits,
    parse_releases,
)

# A process that imports several models, as tests and benchmarks do, finds the modules of each.
__path__ = extend_path(__path__, __name__)

__all__ = [
    "SCHEMA_VERSION",
    "Code",
    "Contract",
    "ContractError",
    "GridSpec",
    "HuRange",
    "LabelClass",
    "ModelInfo",
    "ProfileSpec",
    "Release",
    "Releases",
    "Repeatability",
    "RepeatabilityCoefficient",
    "ScanLimits",
    "ScoreSpec",
    "ServerLimits",
    "WindowSpec",
    "parse_contract",
    "parse_limits",
    "parse_releases",
]
