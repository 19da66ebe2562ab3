# The public names, each once: the stub for type checkers, and the table by which `__init__.py`
# imports a name at first use. `A as A` exports A; `NewError as Old` is a deprecated alias.
# ruff: noqa: F401, I001  (a module a block, aliases in it)

from dlild_client.async_client import AsyncClient as AsyncClient
from dlild_client.client import Client as Client
from dlild_client.contract import (
    Contract as Contract,
    LabelClass as LabelClass,
    parse_contract as parse_contract,
)
from dlild_client.contract.windows import (
    Box as Box,
    WindowPlan as WindowPlan,
    plan_windows as plan_windows,
)
from dlild_client.core import Outcome as Outcome
from dlild_client.errors import (
    BadAddressError as BadAddressError,
    BadAddressError as BadAddress,
    BadSettingsError as BadSettingsError,
    BadSettingsError as BadSettings,
    BusyError as BusyError,
    BusyError as Busy,
    CancelledError as CancelledError,
    CancelledError as Cancelled,
    ConnectionFailedError as ConnectionFailedError,
    ConnectionFailedError as ConnectionFailed,
    ContractError as ContractError,
    DlildError as DlildError,
    GeometryError as GeometryError,
    InputError as InputError,
    IrregularSpacingError as IrregularSpacingError,
    IrregularSpacingError as IrregularSpacing,
    KeyRefusedError as KeyRefusedError,
    KeyRefusedError as KeyRefused,
    MissingGeometryError as MissingGeometryError,
    MissingGeometryError as MissingGeometry,
    MissingSlicesError as MissingSlicesError,
    MissingSlicesError as MissingSlices,
    MixedOrientationError as MixedOrientationError,
    MixedOrientationError as MixedOrientation,
    MixedShapeError as MixedShapeError,
    MixedShapeError as MixedShape,
    ModelNotFoundError as ModelNotFoundError,
    ModelNotFoundError as ModelNotFound,
    NoSeriesError as NoSeriesError,
    NoSeriesError as NoSeries,
    NotComparableError as NotComparableError,
    NotCTError as NotCTError,
    NotCTError as NotCT,
    NotChestError as NotChestError,
    NotChestError as NotChest,
    NotHUError as NotHUError,
    NotHUError as NotHU,
    NotReadyError as NotReadyError,
    NotReadyError as NotReady,
    RefusedError as RefusedError,
    RefusedError as Refused,
    RepeatedPositionError as RepeatedPositionError,
    RepeatedPositionError as RepeatedPosition,
    ScanLostError as ScanLostError,
    ScanLostError as ScanLost,
    ServerError as ServerError,
    SeveralStudiesError as SeveralStudiesError,
    SeveralStudiesError as SeveralStudies,
    TLSFailedError as TLSFailedError,
    TLSFailedError as TLSFailed,
    TimedOutError as TimedOutError,
    TimedOutError as TimedOut,
    TooFewSlicesError as TooFewSlicesError,
    TooFewSlicesError as TooFewSlices,
    TooLargeError as TooLargeError,
    TooLargeError as TooLarge,
    UnreadableFileError as UnreadableFileError,
    UnreadableFileError as UnreadableFile,
)
from dlild_client.flags import Flag as Flag
from dlild_client.preparation.grid import to_grid as to_grid
from dlild_client.preparation.lungs import (
    LungBox as LungBox,
    find_lungs as find_lungs,
)
from dlild_client.preparation.prepare import (
    PreparedScan as PreparedScan,
    prepare as prepare,
)
from dlild_client.reading.read import read_volume as read_volume
from dlild_client.reading.series.candidates import SeriesRules as SeriesRules
from dlild_client.reading.series.geometry import Tolerances as Tolerances
from dlild_client.reading.survey import (
    SeriesSummary as SeriesSummary,
    SeriesSurvey as SeriesSurvey,
    survey_series as survey_series,
)
from dlild_client.results.files import write_result as write_result
from dlild_client.results.overlay import draw_overlay as draw_overlay
from dlild_client.results.result import Result as Result
from dlild_client.settings import (
    Limits as Limits,
    Retries as Retries,
    Timeout as Timeout,
)
from dlild_client.tls import TLS as TLS
from dlild_client.transport.cancel import CancelToken as CancelToken
from dlild_client.transport.connection import ServerInfo as ServerInfo
from dlild_client.volume import (
    SeriesInfo as SeriesInfo,
    Volume as Volume,
)

__version__: str
