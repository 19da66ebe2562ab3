"""ROC curves: AUC with DeLong's variance, operating points, cut-offs."""

from __future__ import annotations

from dlild_analysis.stats.roc.curves import (
    AucComparison,
    AucInterval,
    RocCurve,
    auc,
    auc_value,
    compare_auc_paired,
    compare_auc_unpaired,
    roc_curve,
)
from dlild_analysis.stats.roc.cutoff_scan import (
    CutoffScan,
    scan_cutoffs_binary,
    scan_cutoffs_survival,
)
from dlild_analysis.stats.roc.operating_points import (
    OperatingPoint,
    YoudenCutoff,
    operating_point,
    youden_cutoff,
)

__all__ = [
    "AucComparison",
    "AucInterval",
    "CutoffScan",
    "OperatingPoint",
    "RocCurve",
    "YoudenCutoff",
    "auc",
    "auc_value",
    "compare_auc_paired",
    "compare_auc_unpaired",
    "operating_point",
    "roc_curve",
    "scan_cutoffs_binary",
    "scan_cutoffs_survival",
    "youden_cutoff",
]
