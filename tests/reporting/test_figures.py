"""Figures: nothing is cut off or lost."""

import re

import pandas as pd
import pytest

from adalora.reporting.figures import curves, svg

LONG = "AdaLoRA [importance=magnitude, orthogonality=0, training length of a quarter], custom 82,944"


def points(*steps):
    rows = [(name, x, 80.0 + x, 79.0 + x, 81.0 + x) for name in (LONG, "LoRA") for x in steps]
    return pd.DataFrame(rows, columns=["name", "x", "mean", "low", "high"])


def test_a_curve_of_one_evaluation_is_a_point():
    (one,), (several,) = (curves({"": points(*steps)}, [LONG, "LoRA"], "step", "%").axes for steps in ((5,), (5, 9)))
    assert [line.get_marker() for line in one.lines] == ["o", "s"]  # in shape, too
    assert [line.get_marker() for line in several.lines] == ["None", "None"]
    assert several.lines[0].get_linestyle() != several.lines[1].get_linestyle()


@pytest.mark.parametrize("panels", [1, 4])
def test_a_legend_is_whole_however_long(panels):
    text = svg(curves({str(i): points(5, 9) for i in range(panels)}, [LONG, "LoRA"], "step", "%"))
    width = float(re.search(r'viewBox="0 0 ([\d.]+) ', text)[1])
    start = [float(x) for x in re.findall(rf' x="([\d.]+)" y=[^>]*>{re.escape(LONG)}<', text)]
    assert start and LONG in text
    assert max(start) + 4.5 * len(LONG) < width  # about 4.5 points a character
