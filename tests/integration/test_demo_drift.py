"""`make demo-drift`: of real flights served month by month through a real daemon, `temp` drifts from April on and `hour` never."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FREE = {f"TIDEGATE_{name}_ADDRESS": "127.0.0.1:0" for name in ("GRPC", "METRICS")}
MONTHS = [f"2013-{month:02}" for month in range(4, 13)]


@pytest.mark.timeout(180)
def test_temp_is_reported_drifted_in_april_and_hour_never_all_year(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "clients.demo.drift", "--rows", "800", "--trials", "1"],
        capture_output=True,
        text=True,
        timeout=170,
        check=False,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT), **FREE},
    )
    assert (done.returncode, done.stderr) == (0, "")
    found = dict(re.findall(r"^ +(2013-\d\d): 800 rows, drifted: (.+)$", done.stdout, re.MULTILINE))
    assert list(found) == MONTHS
    drifted = {month: names.split(", ") for month, names in found.items()}
    assert "temp" in drifted["2013-04"]
    assert [month for month, names in drifted.items() if "hour" in names] == []
    table = [line.split() for line in done.stdout.splitlines() if re.match(r" +2013-\d\d  ", line)]
    assert [row[0] for row in table] == MONTHS
    assert all(float(row[5]) < 0.08 for row in table), "KS of hour"
    assert all(0.5 < float(auc) < 0.8 for *_, auc, _low, _high in table), "AUC, of rows that were all found with their labels"
    assert float(table[0][3]) == pytest.approx(0.62, abs=0.03), "KS of temp in April"
    drawing = (tmp_path / ".tidegate/demo-drift/drift-flights.svg").read_text()
    assert drawing.startswith("<svg")
    assert all(text in drawing for text in ("Population stability index", "Kolmogorov-Smirnov", "AUC from late labels", "temp", "hour"))
    # Namespaces are names, not addresses that anyone opens.
    assert set(re.findall(r"https?://[^\"' ]+", drawing)) <= {"http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"}
