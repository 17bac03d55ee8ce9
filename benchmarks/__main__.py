"""`make bench`: measure, print a table, write benchmarks/results/latest.json. `make bench ONLY=ledger` measures less.

A target that is missed is told, and is no failure: the exit code says whether everything could be measured. What could
not is told with its reason, and the rest is measured all the same.
"""

import argparse
import functools
import sys
import traceback
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from pathlib import Path

from benchmarks import audit, history, ledger, pages, peers, report, streams
from benchmarks.report import Row
from benchmarks.servers import Servers, private_servers
from benchmarks.site import site
from chatapp.local.process import LocalError

RESULTS = Path(__file__).parent / "results" / "latest.json"
FAMILIES = ("streams", "pages", "history", "ledger", "audit")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument(
        "--only", nargs="*", choices=FAMILIES, help="the families to measure; all, if none is named"
    )
    parser.add_argument("--quick", action="store_true", help="tiny numbers, that show only that it runs")
    parser.add_argument(
        "--peer",
        choices=peers.NAMES,
        default=peers.NAMES[0],
        help="beside what streams are measured: a route of Next.js, Node.js alone, or nothing at all",
    )
    parser.add_argument("--write", type=Path, default=RESULTS, metavar="FILE", help="where the JSON goes")
    options = parser.parse_args()
    with private_servers() as servers:
        return run(
            servers,
            options.only or FAMILIES,
            quick=options.quick,
            peer=options.peer,
            write=options.write,
        )


def run(servers: Servers, families: Iterable[str], *, quick: bool, peer: str, write: Path) -> int:
    """Measure these families and say what came of it; the exit code."""
    measured: dict[str, list[Row]] = {}
    failed: dict[str, str] = {}
    with ExitStack() as stack:
        # Started by the first that needs it.
        running = functools.cache(lambda: stack.enter_context(site(servers, quick=quick)))
        measures: dict[str, Callable[[], Iterable[Row]]] = {
            "streams": lambda: streams.measure(running(), quick=quick, peer=peer),
            "pages": lambda: pages.measure(running(), quick=quick),
            "history": lambda: history.measure(running(), quick=quick),
            "ledger": lambda: ledger.measure(servers, quick=quick),
            "audit": lambda: audit.measure(servers, quick=quick),
        }
        for name in families:
            print(f"Measuring: {name}", file=sys.stderr, flush=True)
            rows = measured[name] = []
            try:
                for row in measures[name]():
                    rows.append(row)
                    print(f"  {report.line(row)}", file=sys.stderr, flush=True)
            except Exception as error:  # noqa: BLE001 (whatever it is, the other families can be measured)
                traceback.print_exc()
                failed[name] = f"{type(error).__name__}: {error}"
    report.write(write, measured, failed, quick=quick, postgres=servers.postgres_version)
    print(report.table([row for rows in measured.values() for row in rows]))
    for name, reason in failed.items():
        print(f"chatapp: {name} could not be measured. {reason}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except LocalError as error:
        sys.exit(f"chatapp: {error}")
