"""What a check of published figures says."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

Verdict = Literal["coherent", "incoherent", "tension", "cannot tell"]


@dataclass(frozen=True)
class Finding:
    """The answer of one check.

    Attributes
    ----------
    kind, title : str
        Name of the check, and what it was applied to.
    formula, source : str
        The formula that was used, and where it comes from.
    given, derived : dict
        The figures as printed, and what follows from them.
    verdict : {"coherent", "incoherent", "tension", "cannot tell"}
        "tension": the figures differ, but sampling error or an assumption could carry the
        difference.
    words : str
        The verdict in a sentence, with the figures.
    """

    kind: str
    title: str
    formula: str
    source: str
    given: dict[str, Any]
    derived: dict[str, Any]
    verdict: Verdict
    words: str
    assumption: str = field(default="")

    def as_dict(self) -> dict[str, Any]:
        """Write the finding for JSON."""
        return {
            "kind": self.kind,
            "title": self.title,
            "verdict": self.verdict,
            "words": self.words,
            "assumption": self.assumption,
            "formula": self.formula,
            "source": self.source,
            "given": self.given,
            "derived": self.derived,
        }
