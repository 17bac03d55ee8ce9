"""`make bench`: measure, print a table, write benchmarks/results/latest.json. `make bench ONLY=ledger` measures less.

A target that is missed is told, and is no failure: the exit code says whether everything could be measured.
"""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

from benchmarks import audit, ledger, report
from benchmarks.report import Row
from benchmarks.servers import Servers
from chatapp.local.process import LocalError

RESULTS = Path(__file__).parent / "results" / "latest.json"

FAMILIES: dict[str, Callable[..., list[Row]]] = {"ledger": ledger.measure, "audit": audit.measure}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument(
        "--only", nargs="*", choices=FAMILIES, help="the families to measure; all, if none is named"
    )
    parser.add_argument("--quick", action="store_true", help="tiny numbers, that show only that it runs")
    parser.add_argument("--write", type=Path, default=RESULTS, metavar="FILE", help="where the JSON goes")
    options = parser.parse_args()

    measured: dict[str, list[Row]] = {}
    with Servers() as servers:
        for family in options.only or FAMILIES:
            print(f"Measuring: {family}", file=sys.stderr, flush=True)
            measured[family] = FAMILIES[family](servers, quick=options.quick)
        version = servers.postgres_version
    report.write(options.write, measured, quick=options.quick, postgres=version)
    print(report.table([row for rows in measured.values() for row in rows]))


if __name__ == "__main__":
    try:
        main()
    except LocalError as error:
        sys.exit(f"chatapp: {error}")
