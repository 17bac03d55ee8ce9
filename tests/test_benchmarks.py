"""The benchmarks run, and their report says what was measured. How fast anything is, is no test's business."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from django.db import connection

from benchmarks import __main__ as bench
from benchmarks import audit, ledger, load, report, upstream
from benchmarks.ledger import PROBES, person_id
from benchmarks.report import Row, Target
from benchmarks.servers import Servers
from chatapp.local.process import free_port
from tests import servers
from tests.zygote import Zygote


@pytest.fixture
def bench_servers(django_db_setup: None, zygote: Zygote, tmp_path: Path) -> Servers:
    """Those of the tests, with databases of their own."""
    running = servers.running
    return Servers(
        home=tmp_path,
        mark=running.mark,
        postgres=running.postgres,
        valkey=running.valkey,
        valkey_database=1,
        template=connection.creation.get_test_db_clone_settings("untouched")["NAME"],
        start=zygote.start,
    )


def test_all_of_it_with_tiny_numbers(
    bench_servers: Servers, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "results" / "latest.json"
    code = bench.run(bench_servers, bench.FAMILIES, quick=True, peer="none", write=file)
    table = capsys.readouterr().out
    assert code == 0, table
    written = json.loads(file.read_text())
    assert (written["quick"], written["failed"]) == (True, {})
    assert written["machine"]["cores"] >= 1
    assert set(written["versions"]) >= {"python", "postgresql", "django", "psycopg"}
    families = written["families"]
    assert {name: len(rows) for name, rows in families.items()} == {
        "streams": 7,
        "pages": 4,
        "history": 1,
        "ledger": 2,
        "audit": 1,
    }
    for row in (row for rows in families.values() for row in rows):
        assert row["figure"] in table
        assert row["ours"] > 0
    assert families["streams"][-2]["ours"] == 6
    spread, hot = families["ledger"]
    assert (spread["facts"]["accounts"], hot["facts"]["accounts"]) == (20, 1)
    assert spread["ratio"] == pytest.approx(spread["ours"] / spread["peer"])
    [proof] = families["audit"]
    assert proof["facts"]["transfers"] == 100
    assert set(proof["facts"]["rules"].values()) == {0}
    [turn] = families["history"]
    assert turn["ours"] < turn["peer"]


def test_what_cannot_be_measured_is_told_and_the_rest_is_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def measure_half(servers: Any, *, quick: bool) -> Any:
        yield row(figure="first half")
        raise AssertionError("the second half is broken")

    class NoServers:
        postgres_version = "18"

    monkeypatch.setattr(ledger, "measure", measure_half)
    monkeypatch.setattr(audit, "measure", lambda servers, *, quick: [row(figure="of the audit")])
    nobody: Any = NoServers()
    file = tmp_path / "latest.json"
    assert bench.run(nobody, ["ledger", "audit"], quick=True, peer="none", write=file) == 1
    told = capsys.readouterr()
    assert "ledger could not be measured. AssertionError: the second half is broken" in told.err
    assert "first half" in told.out
    assert "of the audit" in told.out
    written = json.loads(file.read_text())
    assert written["failed"] == {"ledger": "AssertionError: the second half is broken"}
    assert written["met"] is False


# --- The reader


def spoken(*moments: int, end: str = "[DONE]") -> bytes:
    """What a relay says: these moments in events, all in one chunk."""
    events = [f'data: {{"text":"{(upstream.SENT % moment).decode()}"}}\n\n' for moment in moments]
    first = (upstream.RECEIVED % 1).decode()
    said = "".join([*events, f"data: {end}\n\n"]).replace('"text":"', f'"text":"{first}', 1)
    return b"HTTP/1.1 200 OK\r\n\r\n" + upstream.chunk(said.encode()) + b"0\r\n\r\n"


async def read(said: bytes, packet: int, *, events: int) -> load.Report:
    """One stream, of which a relay says `said` in packets of so many bytes."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        for begin in range(0, len(said), packet):
            writer.write(said[begin : begin + packet])
            await writer.drain()
            await asyncio.sleep(0)
        writer.close()

    port = free_port()
    async with await asyncio.start_server(answer, "127.0.0.1", port):
        request = "POST / HTTP/1.1\r\n\r\n"
        return await load.run(load.Job(port, [request], events, "[DONE]", apart=0, patience=10))


@pytest.mark.parametrize("packet", [1, 7, 10_000])
async def test_events_are_counted_by_their_moments_however_they_arrive(packet: int) -> None:
    told = await read(spoken(2, 3, 4), packet, events=3)
    assert (told.completed, told.failed, told.events) == (1, 0, 3)
    assert sum(told.seen.values()) == 3


@pytest.mark.parametrize(
    "said",
    [spoken(2, 3), spoken(2, 3, 4, end="cut"), b"HTTP/1.1 503 Away\r\n\r\n"],
    ids=["few", "cut", "none"],
)
async def test_a_stream_that_is_not_complete_is_told(said: bytes) -> None:
    told = await read(said, 10_000, events=3)
    assert (told.completed, told.failed) == (0, 1)
    assert f"{told.events} of 3 events" in told.failures[0]


# --- The report


def row(**fields: Any) -> Row:
    return Row(**{"figure": "x", "unit": "1/s", "target": Target(least=0.5), "ours": [3.0]} | fields)


@pytest.mark.parametrize(("peer", "met"), [([5.9], True), ([6.0], True), ([6.1], False)])
def test_a_target_beside_a_peer_is_one_of_the_ratio(peer: list[float], met: bool) -> None:
    assert row(peer=peer).met is met


@pytest.mark.parametrize(("ours", "met"), [([9.9], True), ([10.1], False)])
def test_a_target_without_a_peer_is_one_of_the_figure(ours: list[float], met: bool) -> None:
    assert row(target=Target(most=10), ours=ours).met is met


@pytest.mark.parametrize(("ours", "met"), [([99.0], True), ([101.0], False)])
def test_beside_a_peer_there_may_be_a_limit_of_the_figure_too(ours: list[float], met: bool) -> None:
    beside = row(target=Target(most=1), limit=Target(most=100), unit="ms", ours=ours, peer=[200.0])
    assert beside.met is met
    assert beside.targets == "≤ 1, ≤ 100 ms"


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
            f"BEGIN;\nSELECT '{person_id(probe.number).hex}'::uuid,\n  {probe.wallet}, '{probe.hold}', "
            f"{probe.balance} FOR UPDATE"
            for probe in PROBES
        )
    )
    assert script.splitlines()[3:] == [
        (
            r"BEGIN\; SELECT '00000000000040008000:person'::uuid, :wallet_id, "
            r"'00000000-0000-4000-:hold_high-:hold_low', :wallet_balance FOR UPDATE \gset wallet_"
        ),
    ]


def test_what_differs_and_is_not_known_ends_the_run() -> None:
    with pytest.raises(AssertionError, match="differ in more than is known"):
        script_of("SELECT 1", "SELECT 2")
