"""How the names below a picture stand."""

from __future__ import annotations

import pytest

from ness_cli.plots.acc_against_bwt import AccAgainstBwt, Result
from ness_cli.plots.legend import Legend

pytest.importorskip("matplotlib")


@pytest.mark.parametrize(
    ("names", "columns"),
    [
        (["a"] * 6, 1),
        (["adam-nscl, quick"] * 7, 2),
        (["gpm"] * 21, 5),
        (["word " * 30] * 21, 1),
        ([""] * 7, 9),
        ([], 1),
    ],
)
def test_many_short_names_stand_side_by_side(names, columns):
    assert Legend(names, 4.8).columns == columns


def test_no_name_leaves_the_picture_or_meets_another():
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    names = [f"{letter * 20}" for letter in "WMmwil"] * 4
    picture = AccAgainstBwt([Result(name, 90.0, -1.0) for name in names])
    figure = Figure(figsize=picture.size, layout="constrained")
    FigureCanvasAgg(figure)
    picture.draw(figure)
    figure.canvas.draw()
    texts = figure.legends[0].get_texts()
    assert len(texts) == len(names)
    boxes = [text.get_window_extent() for text in texts]
    inside = figure.bbox
    assert all(inside.x0 <= box.x0 and box.x1 <= inside.x1 for box in boxes)
    assert all(inside.y0 <= box.y0 and box.y1 <= inside.y1 for box in boxes)
    assert not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i])
