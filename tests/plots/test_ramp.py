from __future__ import annotations

import math

import pytest

from ness_cli.plots.picture import COLOURS, INK, PAPER
from ness_cli.plots.ramp import colour, ink_on, luminance, span


def _contrast(one, other):
    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def test_luminance_and_contrast_are_those_of_wcag():
    assert luminance("#ffffff") == pytest.approx(1)
    assert luminance("#808080") == pytest.approx(0.2158605)
    assert _contrast("#000000", "#ffffff") == pytest.approx(21)


def test_more_is_darker_and_every_number_can_be_read():
    colours = [colour(value, 0, 100) for value in range(101)]
    lights = [luminance(each) for each in colours]
    assert lights == sorted(lights, reverse=True)
    assert len(set(colours)) == 101
    assert min(_contrast(each, ink_on(each)) for each in colours) >= 4.5


def test_what_lies_outside_has_the_colour_of_the_nearer_end():
    assert colour(-5, 0, 100) == colour(0, 0, 100)
    assert colour(105, 0, 100) == colour(100, 0, 100)


@pytest.mark.parametrize(
    ("values", "limits"),
    [
        ([], (0, 100)),
        ([None, math.nan], (0, 100)),
        ([97.5, None, 98.0], (80, 100)),
        ([41.0, 88.0], (40, 90)),
        ([0.0, 0.0], (0, 20)),
        ([100.0], (80, 100)),
    ],
)
def test_colours_are_spread_between_tens(values, limits):
    assert span(values) == limits


@pytest.mark.parametrize("paper", [PAPER, "#0d1117"])
def test_lines_stand_out_from_light_and_dark_paper(paper):
    assert min(_contrast(each, paper) for each in COLOURS) >= 3
    assert _contrast(INK, PAPER) >= 7
