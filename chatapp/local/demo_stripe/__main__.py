"""Runs the demo Stripe until it is told to stop: `python -m chatapp.local.demo_stripe --help`."""

import argparse
import asyncio
import logging
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

from aiohttp import web
from aiohttp.abc import AbstractAccessLogger

from chatapp.local.demo_stripe import api, hosted_page
from chatapp.local.demo_stripe.control import Control, api_faults, refusals_as_json
from chatapp.local.demo_stripe.deliveries import Deliveries
from chatapp.local.demo_stripe.objects import Json
from chatapp.local.demo_stripe.shop import Shop


class OneLine(AbstractAccessLogger):
    """`POST /v1/checkout/sessions 200 3 ms`: never a body, a query or a header."""

    def log(self, request: web.BaseRequest, response: web.StreamResponse, time: float) -> None:
        self.logger.info("%s %s %s %.0f ms", request.method, request.path, response.status, time * 1000)


def application(options: argparse.Namespace) -> web.Application:
    """The whole stand-in as one aiohttp application; it needs a running loop from its start on."""

    def announce(event: Json) -> None:
        deliveries.send(event)

    public_url = (options.public_url or f"http://{options.host}:{options.port}").rstrip("/")
    shop = Shop(
        public_url=public_url, bank_seconds=options.bank_seconds, file=options.state, announce=announce
    )
    deliveries = Deliveries(
        url=options.webhook_url,
        secret=options.webhook_secret,
        retry_seconds=options.retry_seconds,
        delivered=shop.delivered,
    )
    control = Control(shop=shop, deliveries=deliveries)

    async def live(app: web.Application) -> AsyncIterator[None]:
        await deliveries.open()
        shop.resume()
        logging.info("on %s, events to %s", public_url, options.webhook_url)
        yield
        await deliveries.close()

    async def healthz(request: web.Request) -> web.Response:
        return web.json_response({"status": "ok"})

    app = web.Application(middlewares=[api_faults(control), refusals_as_json])
    app.cleanup_ctx.append(live)
    app.add_routes(
        [web.get("/healthz", healthz), *control.routes(), *hosted_page.routes(shop), *api.routes(shop)]
    )
    return app


def read_options(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m chatapp.local.demo_stripe", description="A stand-in for Stripe."
    )
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--webhook-url", required=True, help="where events are delivered")
    parser.add_argument("--webhook-secret", required=True, help="what they are signed with: whsec_…")
    parser.add_argument("--public-url", help="where browsers reach this stand-in; default: its own address")
    parser.add_argument("--state", type=Path, help="a JSON file that keeps everything over a restart")
    parser.add_argument("--bank-seconds", type=float, default=8.0, help="how long a bank takes to answer")
    parser.add_argument(
        "--retry-seconds", type=float, default=1.0, help="wait before a failed delivery is repeated"
    )
    return parser.parse_args(arguments)


def main() -> None:
    options = read_options()
    logging.Formatter.converter = time.gmtime
    logging.basicConfig(stream=sys.stdout, level=logging.INFO, format="%(asctime)s demo-stripe %(message)s")
    try:
        web.run_app(
            application(options),
            host=options.host,
            port=options.port,
            access_log_class=OneLine,
            access_log=logging.getLogger("demo-stripe"),
            print=None,
            shutdown_timeout=1.0,
            loop=asyncio.new_event_loop(),
        )
    except OSError as error:
        sys.exit(f"demo-stripe: cannot listen on {options.host}:{options.port}: {error.strerror or error}")


if __name__ == "__main__":
    main()
