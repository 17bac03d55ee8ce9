"""Runs the demo Stripe until it is told to stop: `python -m chatapp.local.demo_stripe --help`."""

import argparse
import asyncio
import logging
import sys
import time
from pathlib import Path

from aiohttp import web

from chatapp.local.demo_stripe.server import OneLine, Options, application


def main() -> None:
    given = read_arguments()
    logging.Formatter.converter = time.gmtime
    logging.basicConfig(stream=sys.stdout, level=logging.INFO, format="%(asctime)s demo-stripe %(message)s")
    options = Options(
        public_url=given.public_url or f"http://{given.host}:{given.port}",
        webhook_url=given.webhook_url,
        webhook_secret=given.webhook_secret,
        state=given.state,
        bank_seconds=given.bank_seconds,
        retry_seconds=given.retry_seconds,
    )
    try:
        web.run_app(
            application(options),
            host=given.host,
            port=given.port,
            access_log_class=OneLine,
            access_log=logging.getLogger("demo-stripe"),
            print=None,
            shutdown_timeout=1.0,
            loop=asyncio.new_event_loop(),
        )
    except OSError as error:
        sys.exit(f"demo-stripe: cannot listen on {given.host}:{given.port}: {error.strerror or error}")


def read_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m chatapp.local.demo_stripe", description="A stand-in for Stripe."
    )
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--webhook-url", required=True, help="where events are delivered")
    parser.add_argument("--webhook-secret", required=True, help="what they are signed with: whsec_…")
    parser.add_argument("--public-url", help="where browsers reach this stand-in; default: its own address")
    parser.add_argument("--state", type=Path, help="a file that keeps everything over a restart")
    parser.add_argument("--bank-seconds", type=float, default=8.0, help="how long a bank takes to answer")
    parser.add_argument(
        "--retry-seconds", type=float, default=1.0, help="wait before a failed delivery is repeated"
    )
    return parser.parse_args()


if __name__ == "__main__":
    main()
