"""Steps that ask whether the score says the same in every subgroup and site."""
