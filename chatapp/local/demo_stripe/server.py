"""All of it as one web application."""

import logging
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

from aiohttp import web
from aiohttp.abc import AbstractAccessLogger
from aiohttp.typedefs import Handler

from chatapp.local.demo_stripe import (
    api,
    checkout,
    hosted_page,
    invoice_page,
    portal_page,
    refunds,
    subscriptions,
)
from chatapp.local.demo_stripe.control import Control, api_faults, refusals_as_json
from chatapp.local.demo_stripe.deliveries import Deliveries
from chatapp.local.demo_stripe.objects import Json
from chatapp.local.demo_stripe.shop import Shop


@dataclass(frozen=True)
class Options:
    """`public_url` is where browsers reach it, `state` a file that keeps everything over a restart."""

    public_url: str
    webhook_url: str
    webhook_secret: str
    state: Path | None = None
    bank_seconds: float = 8.0
    retry_seconds: float = 1.0


class OneLine(AbstractAccessLogger):
    """`POST /v1/checkout/sessions 200 3 ms`: never a body, a query or a header."""

    def log(self, request: web.BaseRequest, response: web.StreamResponse, time: float) -> None:
        self.logger.info("%s %s %s %.0f ms", request.method, request.path, response.status, time * 1000)


def application(options: Options) -> web.Application:
    """The whole stand-in as one aiohttp application; it needs a running loop from its start on."""

    def announce(event: Json) -> None:
        deliveries.send(event)

    shop = Shop(
        public_url=options.public_url.rstrip("/"),
        bank_seconds=options.bank_seconds,
        file=options.state,
        announce=announce,
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
        for module in (checkout, refunds, subscriptions):
            module.go_on(shop)
        shop.resume()
        logging.getLogger("demo-stripe").info("on %s, events to %s", shop.public_url, options.webhook_url)
        yield
        await deliveries.close()

    @web.middleware
    async def in_steps(request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            return await handler(request)
        finally:
            shop.keep()

    async def healthz(request: web.Request) -> web.Response:
        return web.json_response({"status": "ok"})

    app = web.Application(middlewares=[api_faults(control), refusals_as_json, in_steps])
    app.cleanup_ctx.append(live)
    app.add_routes([web.get("/healthz", healthz), *control.routes()])
    for part in (hosted_page, portal_page, invoice_page, api):
        app.add_routes(part.routes(shop))
    return app
