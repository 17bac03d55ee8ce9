"""`python -m chatapp.local.demo_claude`: the demo Claude as a process."""

import argparse
import asyncio
import os
import signal
import sys

import uvloop

from . import directives
from .script import Changes
from .server import Demo
from .serving import allow_many_connections, serve


def main() -> int:
    """Serves until SIGTERM, SIGINT or, if asked, the end of standard input.

    The first line printed ends in the URL. Exit status 1: cannot listen there; 2: a wrong directive.
    """
    options = _options()
    try:
        changes = _changes(options)
    except directives.DirectiveError as error:
        print(f"demo claude: {error}", file=sys.stderr)
        return 2
    allow_many_connections()
    demo = Demo(changes, api_key=options.api_key, log=None if options.quiet else _print)
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_run(demo, options))
    except OSError as error:
        # uvloop puts a sentence around the reason; the number alone gives the system's own words.
        reason = os.strerror(error.errno) if error.errno else error
        print(f"demo claude: cannot listen on {options.host}:{options.port}: {reason}", file=sys.stderr)
        return 1
    return 0


async def _run(demo: Demo, options: argparse.Namespace) -> None:
    loop = asyncio.get_running_loop()
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    if options.until_stdin_closes:
        loop.add_reader(sys.stdin.fileno(), _stop_at_end_of_stdin, stopped)
    await serve(demo, options.host, options.port, stopped, lambda url: _print(f"demo claude on {url}"))


def _stop_at_end_of_stdin(stopped: asyncio.Event) -> None:
    if not os.read(sys.stdin.fileno(), 4096):
        asyncio.get_running_loop().remove_reader(sys.stdin.fileno())
        stopped.set()


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m chatapp.local.demo_claude",
        description="A stand-in for Anthropic's Messages API.",
        epilog="DEMO_CLAUDE_DIRECTIVES may hold more, one per line. The message `[[demo: help]]` lists them.",
    )
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0, help="0, the default, takes a free one")
    parser.add_argument("--api-key", default="", metavar="KEY", help="accept no other key")
    parser.add_argument(
        "--directive",
        action="append",
        default=[],
        metavar="TEXT",
        help="what every answer is made to do, such as 'pace 200' or 'cut after=20'; may be repeated",
    )
    parser.add_argument("--quiet", action="store_true", help="print no line per request")
    parser.add_argument(
        "--until-stdin-closes",
        action="store_true",
        help="stop at the end of standard input, so that a parent that is killed leaves nothing behind",
    )
    return parser.parse_args()


def _changes(options: argparse.Namespace) -> list[Changes]:
    lines = [*os.environ.get("DEMO_CLAUDE_DIRECTIVES", "").splitlines(), *options.directive]
    return [directives.from_line(line) for line in lines if line.strip()]


def _print(line: str) -> None:
    print(line, flush=True)


if __name__ == "__main__":
    sys.exit(main())
