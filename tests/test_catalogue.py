"""Every fault of the catalogue has the tests that it says."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
ROWS = [
    [cell.strip() for cell in line.strip("|\n").split("|")]
    for line in (ROOT / "docs" / "catalogue.md").read_text().splitlines()
    if re.match(r"\| [A-Z]\d", line)
]


def test_all_are_there():
    found = {name for row in ROWS for name in row[0].split(", ")}
    expected = {f"G{n}" for n in range(1, 40)} - {f"G{n}" for n in (8, 30, 31, 32)}  # numbers that were never given
    last = {"P": 12, "S": 8, "D": 5, "T": 9, "C": 11, "X": 4}
    expected |= {f"{letter}{n}" for letter, end in last.items() for n in range(1, end + 1)} - {"T7", "C10"}  # nor these
    assert expected == found


def test_the_tests_exist():
    for row in ROWS:
        tests = re.findall(r"`(tests/\S+)::(\w+)`", row[2])
        assert tests, row[0]
        for path, name in tests:
            assert re.search(rf"^def {name}\(", (ROOT / path).read_text(), re.MULTILINE), f"{row[0]}: {path}::{name}"
