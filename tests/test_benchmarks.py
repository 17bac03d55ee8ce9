"""The benchmarks run, and their report says what was measured. How fast anything is, is no test's business."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks import ledger, report
from benchmarks.ledger import PROBES, person_id
from benchmarks.report import Row, Target
from chatapp.local.process import CLONE


def test_all_of_it_with_tiny_numbers(tmp_path: Path) -> None:
    file = tmp_path / "results" / "latest.json"
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", "--quick", "--write", str(file)],
        cwd=CLONE,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    written = json.loads(file.read_text())
    assert written["quick"] is True
    assert written["machine"]["cores"] >= 1
    assert set(written["versions"]) >= {"python", "postgresql", "django", "psycopg"}
    spread, hot = written["families"]["ledger"]
    assert (spread["facts"]["accounts"], hot["facts"]["accounts"]) == (20, 1)
    assert all(row["ours"] > 0 and row["peer"] > 0 for row in (spread, hot))
    assert spread["ratio"] == pytest.approx(spread["ours"] / spread["peer"])
    [audit] = written["families"]["audit"]
    assert audit["facts"]["transfers"] == 100
    assert set(audit["facts"]["rules"].values()) == {0}
    for row in (spread, hot, audit):
        assert row["figure"] in done.stdout


def test_one_family_alone_can_be_asked_for() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", "--only", "streams-of-gold"],
        cwd=CLONE,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert "ledger" in done.stderr


# --- The report


def row(**fields: Any) -> Row:
    return Row(**{"figure": "x", "unit": "1/s", "target": Target(least=0.5), "ours": [3.0]} | fields)


@pytest.mark.parametrize(("peer", "met"), [([5.9], True), ([6.0], True), ([6.1], False)])
def test_a_target_beside_a_peer_is_one_of_the_ratio(peer: list[float], met: bool) -> None:
    assert row(peer=peer).met is met


@pytest.mark.parametrize(("ours", "met"), [([9.9], True), ([10.1], False)])
def test_a_target_without_a_peer_is_one_of_the_figure(ours: list[float], met: bool) -> None:
    assert row(target=Target(most=10), ours=ours).met is met


def test_medians_are_compared_so_one_bad_moment_decides_nothing() -> None:
    assert row(ours=[100, 1, 100], peer=[50, 50, 5_000]).ratio == 2


def test_the_table_says_what_was_missed() -> None:
    table = report.table([row(figure="fast", peer=[1.0]), row(figure="slow", peer=[10.0], peer_name="peer")])
    lines = table.splitlines()
    assert lines[2].startswith("fast")
    assert lines[2].endswith("met")
    assert lines[3].split() == ["slow", "1/s", "3", "10", "peer", "0.30", "≥", "0.5", "MISSED"]


# --- The script


class Recorded:
    """Stands for our clients and the database: what each person's cycle sends is told beforehand."""

    def __init__(self, *told: str) -> None:
        self.told = list(told)

    def tell(self, command: dict[str, Any], first: int) -> list[dict[str, Any]]:
        return [{"open": [self.told.pop(0)], "close": []}]

    def execute(self, *statements: str, **params: Any) -> None:
        pass


def script_of(*told: str) -> str:
    recorded: Any = Recorded(*told)
    return ledger.pgbench_script(recorded, recorded)


def test_what_differs_from_person_to_person_becomes_a_variable() -> None:
    script = script_of(
        *(
            f"SELECT '{person_id(probe.number).hex}'::uuid,\n  {probe.wallet}, '{probe.hold}', "
            f"{probe.balance} FOR UPDATE"
            for probe in PROBES
        )
    )
    assert script.splitlines()[3:] == [
        "BEGIN;",
        (
            "SELECT '00000000000040008000:person'::uuid, :wallet_id, '00000000-0000-4000-:hold_high-:hold_low', "
            r":wallet_balance FOR UPDATE \gset wallet_"
        ),
        "COMMIT;",
        "BEGIN;",
        "COMMIT;",
    ]


def test_what_differs_and_is_not_known_ends_the_run() -> None:
    with pytest.raises(AssertionError, match="differ in more than is known"):
        script_of("SELECT 1", "SELECT 2")
