import csv
import io
import json
import re

import numpy as np
import pytest

from cmb_lightning.cleaning.scores import CALIBRATION, METRICS, Scores
from cmb_lightning.results.tables import (
    calibration_table,
    print_scores,
    print_table,
    rmse_table,
    score_tables,
    summary,
    with_spread,
    write_scores,
)


def scores():
    rng = np.random.default_rng(0)

    def entry(level, sims=4):
        return Scores(
            np.arange(sims), level * rng.uniform(0.9, 1.1, size=(sims, 1, 2, len(METRICS))), ("I",), ("full", "b20")
        )

    return {
        (s, m): entry(level) for s in ("valid", "turned") for m, level in (("network", 3), ("ilc", 6), ("linear", 4))
    }


def test_tables_hold_means_spreads_and_ratios():
    given = scores()
    tables = score_tables(given)
    assert [table.title for table in tables] == [
        f"{sky}, mean ± spread over 4 simulations" for sky in ("full sky", "|b| > 20°")
    ]
    assert tables[0].columns[-2:] == ("RMSE / pixel ILC", "RMSE / trained linear")
    row = tables[1].rows[3]
    rmse = given["turned", "network"].of("RMSE", "b20")
    assert row[:2] == ("turned", "network")
    assert row[3] == with_spread(rmse.mean(), rmse.std(ddof=1))
    assert row[-1] == f"{rmse.mean() / given['turned', 'linear'].of('RMSE', 'b20').mean():.3f}"


def test_markdown_is_one_table():
    text = score_tables(scores())[1].markdown()
    lines = [line for line in text.splitlines() if line.startswith("|")]
    assert len(lines) == 2 + 6 and len({line.count("|") - line.count("\\|") for line in lines}) == 1


@pytest.mark.parametrize(
    ("mean", "spread", "text"),
    [
        (3.3141, 0.0172, "3.314 ± 0.017"),
        (8.686, 0.555, "8.69 ± 0.56"),
        (307.2, 41.0, "307 ± 41"),
        (0.99991, 0.000012, "0.999910 ± 0.000012"),
        (4.23512, float("nan"), "4.235"),
        (float("nan"), 1.0, "-"),
        (1.0, 0.0, "1"),
    ],
)
def test_digits(mean, spread, text):
    assert with_spread(mean, spread) == text


def test_files(tmp_path):
    given = scores()
    paths = write_scores(given, tmp_path / "test")
    assert [path.name for path in paths] == ["scores.md", "scores.csv", "scores.json"]
    rows = list(csv.DictReader(io.StringIO(paths[1].read_text())))
    assert len(rows) == 6 * 4 * 2
    values = [float(r["RMSE"]) for r in rows if (r["split"], r["method"], r["region"]) == ("valid", "ilc", "b20")]
    np.testing.assert_array_equal(values, given["valid", "ilc"].of("RMSE", "b20"))
    records = json.loads(paths[2].read_text())
    assert records == summary(given) and len(records) == 6 * 2 * len(METRICS)
    assert [p.name for p in (tmp_path / "test").iterdir() if p.name.startswith(".")] == []


def test_single_simulation_is_valid_json(tmp_path):
    one = {("valid", "network"): Scores(np.array([0]), np.ones((1, 1, 1, len(METRICS))), ("I",), ("full",))}
    path = write_scores(one, tmp_path)[2]
    assert json.loads(path.read_text())[0]["spread"] is None and "NaN" not in path.read_text()


def test_console(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "160")
    print_scores(scores())
    shown = capsys.readouterr().out
    assert (
        "[dB]" in shown
        and "trained linear" in shown
        and "|b| > 20°" in shown
        and "RMSE /" in shown
        and "pixel ILC" in shown
    )


def test_six_methods_fit_on_100_columns(capsys, monkeypatch):
    """Names and numbers are whole, each method of each split on one line, and ± is the standard error."""
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setenv("FORCE_COLOR", "1")  # a terminal, whose width counts
    methods = ["real_sky_64", "bayesian_64", "adaptive_64", "pixel ILC", "needlet ILC", "linear"]
    regions = ("full", "b20", "faintest50%", "50-80%", "brightest20%")
    values = np.random.default_rng(0).uniform(3, 9, size=(2, 6, 8, 1, 5, len(METRICS)))
    given = {
        (split, method): Scores(np.arange(8), values[s, m], ("I",), regions)
        for s, split in enumerate(("test", "test_turned"))
        for m, method in enumerate(methods)
    }
    table = rmse_table(given, "I", 120.0)
    print_table(table)
    lines = re.sub(r"\x1b\[[\d;]*m", "", capsys.readouterr().out).splitlines()
    assert max(map(len, lines)) <= 100
    assert lines[0].rstrip() == "RMSE [µK], mean ± standard error over 8 simulations, beam 120 arcmin"
    rows = [re.split(r"\s{2,}", line.strip()) for line in lines if "±" in line][1:]
    assert [row[0] for row in rows] == 2 * [*methods[:-1], "trained linear"]
    rmse = values[1, 5, :, 0, 3, METRICS.index("RMSE")]
    assert rows[-1][4] == f"{rmse.mean():.2f} ±{rmse.std(ddof=1) / np.sqrt(8):.2f}"
    assert [line.strip() for line in lines if line.strip() in ("test", "test_turned")] == ["test", "test_turned"]


def test_nothing_scored(capsys, tmp_path):
    print_scores({})
    assert capsys.readouterr().out == "" and write_scores({}, tmp_path)[1].read_text() == ""


def test_error_bars_have_a_table_and_files_of_their_own(tmp_path, capsys):
    values = np.tile([0.66, 0.94, 0.99, 0.01, 1.1], (4, 1, 2, 1)) + np.arange(4)[:, None, None, None] / 100
    bars = {("valid", "network"): Scores(np.arange(4), values, ("I",), ("full", "b10-20"), CALIBRATION)}
    table = calibration_table(bars)
    assert table.title == "Error bars, mean ± spread over 4 simulations"
    assert table.rows[1][:3] == ("valid", "|b| 10° to 20°", with_spread(67.5, 100 * values[:, 0, 0, 0].std(ddof=1)))
    print_scores(scores(), bars)
    assert "Error bars, mean ± spread over 4 simulations" in capsys.readouterr().out
    paths = write_scores(scores(), tmp_path, bars)
    assert [path.name for path in paths][3:] == ["calibration.md", "calibration.csv", "calibration.json"]
    rows = [*csv.DictReader((tmp_path / "calibration.csv").open())]
    assert len(rows) == 8 and float(rows[7]["coverage95"]) == pytest.approx(0.97)
