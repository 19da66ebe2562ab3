import math

import pytest
from bench.support.rounds import Contender, ratio, run_rounds, turns
from hypothesis import given
from hypothesis import strategies as st


@given(st.integers(1, 30).flatmap(lambda n: st.tuples(st.integers(1, n), st.just(n))))
def test_every_contender_has_its_turns_in_different_rounds(case):
    repeats, rounds = case
    taken = turns(repeats, rounds)
    assert len(taken) == repeats
    assert all(0 <= number < rounds for number in taken)


def test_contenders_take_turns():
    ran = []

    def contender(name, repeats):
        return Contender(name, lambda: ran.append(name) or 1.5, repeats)

    fields = [contender("often", 5), contender("seldom", 1)]
    run_rounds(fields, lambda _: None, warm=("often",))
    assert ran == ["often"] * 4 + ["seldom"] + ["often"] * 2
    assert sorted(fields[0].seconds) == [0, 1, 2, 3, 4]
    assert sorted(fields[1].seconds) == [2]
    assert fields[1].dl_ild_percent == 1.5
    assert math.isnan(contender("never", 1).dl_ild_percent)


def test_a_slow_spell_that_hits_both_does_not_change_the_ratio():
    assert ratio({0: 2.0, 1: 20.0, 2: 2.0}, {0: 1.0, 1: 10.0, 2: 1.0}) == 2.0
    assert ratio({1: 30.0}, {0: 1.0, 1: 10.0, 2: 1.0}) == 3.0
    with pytest.raises(ValueError, match="no round"):
        ratio({1: 1.0}, {2: 1.0})
