"""The crash test by itself, with as many kills as one likes."""

import argparse
import os
import sys

import pytest

import tests.crash


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.crash",
        description=tests.crash.__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--kills", type=int, default=300)
    os.environ["CRASH_KILLS"] = str(parser.parse_args().kills)
    return pytest.main(["-q", "-s", "-o", "faulthandler_timeout=0", "tests/crash"])


if __name__ == "__main__":
    sys.exit(main())
