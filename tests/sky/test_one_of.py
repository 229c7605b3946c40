import numpy as np
import pytest

from cmb_lightning.errors import ConfigError
from cmb_lightning.sky import Foreground, Instrument, OneOf
from cmb_lightning.sky.rng import Draws


class Constant(Foreground):
    """A foreground whose every coefficient is one number."""

    fixed = True

    def __init__(self, name: str, value: float) -> None:
        self.name, self.value = name, value

    def check(self, channels, nside):
        if self.value < 0:
            raise ConfigError(f"{self.name}: negative")

    def alm(self, channels, nside, lmax, draws):
        return np.full((len(channels), (lmax + 1) * (lmax + 2) // 2), self.value, np.complex64)

    def recipe(self):
        return {"value": self.value}


CHANNELS = Instrument.load("reference", 8, ["30", "44"], ("I",)).channels


def test_each_is_drawn_as_often_and_the_same_again():
    choice = OneOf([Constant("a", 1.0), Constant("b", 2.0), Constant("c", 3.0)])
    drawn = [choice.alm(CHANNELS, 8, 4, Draws(0, "train", index))[0, 0].real for index in range(300)]
    counts = [drawn.count(value) for value in (1.0, 2.0, 3.0)]
    assert sum(counts) == 300 and min(counts) > 75  # 100 +- 8 each
    assert drawn[7] == choice.alm(CHANNELS, 8, 4, Draws(0, "train", 7))[0, 0].real
    assert not choice.fixed


def test_all_are_checked_and_described():
    choice = OneOf([Constant("a", 1.0), Constant("b", -2.0)])
    with pytest.raises(ConfigError, match="b: negative"):
        choice.check(CHANNELS, 8)
    assert choice.recipe()["foregrounds"] == [{"value": 1.0}, {"value": -2.0}]


@pytest.mark.parametrize("given", [[], [Constant("a", 1.0)], [Constant("a", 1.0), Constant("a", 2.0)]])
def test_a_choice_needs_two_names(given):
    with pytest.raises(ConfigError, match="at least two"):
        OneOf(given)
