"""`/demo/…`: how a test directs the demo over HTTP, and looks at what it was asked."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from aiohttp import web

from . import directives, prompt
from .director import Cue
from .errors import ApiError

if TYPE_CHECKING:
    from .server import Demo

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def routes(demo: Demo) -> list[web.RouteDef]:
    """The endpoints that direct `demo`."""

    async def show_manual(request: web.Request) -> web.StreamResponse:
        return web.Response(text=directives.manual(), content_type="text/markdown")

    async def queue_script(request: web.Request) -> web.StreamResponse:
        """`{"script": …, "times": 1, "match": ""}`: for the next so many messages that contain `match`."""
        body = prompt.decode(await request.read())
        changes = directives.from_json(body.get("script", []))
        demo.director.cues.append(Cue(changes, int(body.get("times", 1)), str(body.get("match", ""))))
        return web.json_response({})

    async def set_defaults(request: web.Request) -> web.StreamResponse:
        """`{"script": …}`: for every message until the next reset."""
        body = prompt.decode(await request.read())
        demo.director.always = directives.from_json(body.get("script", []))
        return web.json_response({})

    async def list_requests(request: web.Request) -> web.StreamResponse:
        """`?path=&state=&count=&seconds=`: the journal; waits so long for so many such entries."""
        query = request.query
        found = await demo.journal.find(
            path=query.get("path", ""),
            state=query.get("state", ""),
            count=int(query.get("count", "0")),
            seconds=float(query.get("seconds", "0")),
        )
        return web.json_response({"requests": [entry.as_json() for entry in found]})

    async def advance_clock(request: web.Request) -> web.StreamResponse:
        """`{"seconds": 301}`: lets the prompt cache grow older."""
        body = prompt.decode(await request.read())
        demo.cache.advance(float(body.get("seconds", 0)))
        return web.json_response({})

    async def reset(request: web.Request) -> web.StreamResponse:
        demo.reset()
        return web.json_response({})

    return [
        web.get("/demo/", show_manual),
        web.post("/demo/script", queue_script),
        web.post("/demo/defaults", set_defaults),
        web.get("/demo/requests", list_requests),
        web.post("/demo/clock", advance_clock),
        web.post("/demo/reset", reset),
    ]


async def answer(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Lets a control request be answered; 400 with a reason when it makes no sense."""
    try:
        return await handler(request)
    except ApiError as error:
        return web.json_response({"error": error.message}, status=400)
    except ValueError as error:
        return web.json_response({"error": str(error)}, status=400)
