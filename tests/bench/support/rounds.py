"""Interleaved rounds: contenders take turns, so that all share the load of the machine."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field


@dataclass
class Contender:
    """One way to score the scan.

    Attributes
    ----------
    name : str
    run : callable
        Scores the scan once and returns DL-ILD in percent.
    repeats : int
        How often it runs.
    seconds : dict of int to float
        Wall time by round.
    dl_ild_percent : float
        Of its last run.
    """

    name: str
    run: Callable[[], float]
    repeats: int
    seconds: dict[int, float] = field(default_factory=dict)
    dl_ild_percent: float = float("nan")

    @property
    def median_s(self) -> float:
        """Median wall time."""
        return statistics.median(self.seconds.values())


def turns(repeats: int, rounds: int) -> set[int]:
    """Rounds in which a contender runs: evenly spread, none at the very start when it runs once.

    Parameters
    ----------
    repeats, rounds : int
        How often it runs, of how many rounds.

    Returns
    -------
    set of int
    """
    return {round((2 * i + 1) * rounds / (2 * repeats) - 0.5) for i in range(repeats)}


def run_rounds(
    contenders: Sequence[Contender], say: Callable[[str], None], warm: Sequence[str] = ()
) -> None:
    """Run all contenders in turn, round after round.

    Parameters
    ----------
    contenders : sequence of Contender
        Filled in.
    say : callable
        Told of each round.
    warm : sequence of str
        Names of those that run once beforehand, unmeasured.
    """
    for contender in contenders:
        if contender.name in warm:
            contender.run()
    rounds = max(contender.repeats for contender in contenders)
    for number in range(rounds):
        for contender in contenders:
            if number in turns(contender.repeats, rounds):
                started = time.perf_counter()
                contender.dl_ild_percent = contender.run()
                contender.seconds[number] = time.perf_counter() - started
        taken = ", ".join(
            f"{c.name} {c.seconds[number]:.2f} s" for c in contenders if number in c.seconds
        )
        say(f"round {number + 1} of {rounds}: {taken}")


def ratio(above: Mapping[int, float], below: Mapping[int, float]) -> float:
    """Median over the rounds that both ran in: a slow spell of the machine then hits both alike.

    Parameters
    ----------
    above, below : mapping of int to float
        Seconds by round.

    Returns
    -------
    float

    Raises
    ------
    ValueError
        They never ran in the same round.
    """
    shared = sorted(set(above) & set(below))
    if not shared:
        raise ValueError("no round in which both ran")
    return statistics.median(above[i] / below[i] for i in shared)
