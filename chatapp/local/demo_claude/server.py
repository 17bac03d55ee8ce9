"""The Messages API's endpoints, as the demo answers them."""

import asyncio
import hashlib
import math
import re
import secrets
import time
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from aiohttp import HttpVersion11, web

from . import catalogue, control, playback, prompt, reply
from .director import Director
from .errors import ApiError, invalid
from .journal import Entry, Journal
from .prompt import Prompt
from .prompt_cache import PromptCache
from .script import Changes, Cut, Drop, ErrorEvent, Garbage, Hang, Script, Stall, Status, TooLong

MAX_REQUEST_BYTES = 32 * 1024 * 1024

# How many different questions are remembered in order to vary the answer.
MAX_QUESTIONS = 10_000

REQUESTS_PER_MINUTE = 4_000
INPUT_TOKENS_PER_MINUTE = 2_000_000
OUTPUT_TOKENS_PER_MINUTE = 400_000

_VERSION = re.compile(r"20\d\d-\d\d-\d\d")

ENTRY: web.RequestKey[Entry] = web.RequestKey("entry", Entry)


class Demo:
    """The stand-in: one instance is one API with its prompt cache, its script and its journal."""

    def __init__(
        self,
        changes: Sequence[Changes] = (),
        *,
        api_key: str = "",
        log: Callable[[str], None] | None = None,
    ) -> None:
        """`changes` are the directives for every reply; with an `api_key`, no other key is accepted."""
        self.director = Director(changes)
        self.journal = Journal()
        self.cache = PromptCache()
        self._api_key = api_key
        self._log = log
        self._asked: Counter[str] = Counter()
        self._running = 0

    def application(self) -> web.Application:
        """The routes, for aiohttp to serve with `handler_cancellation`."""
        app = web.Application(client_max_size=MAX_REQUEST_BYTES, middlewares=[self._answer])
        app.router.add_post("/v1/messages", self._create_message)
        app.router.add_post("/v1/messages/count_tokens", self._count_tokens)
        app.router.add_get("/v1/models", self._list_models)
        app.router.add_get("/v1/models/{model}", self._show_model)
        app.add_routes(control.routes(self))
        return app

    def reset(self) -> None:
        """Back to how it began; answers that are being sent go on."""
        self.director.reset()
        self.cache.clear()
        self.journal.clear()
        self._asked.clear()

    # --- around every request

    @web.middleware
    async def _answer(self, request: web.Request, handler: control.Handler) -> web.StreamResponse:
        """Notes the request, lets it be answered, and answers what goes wrong as the API would."""
        if request.path.startswith("/demo/"):
            return await control.answer(request, handler)
        request_id = _new_id("req_011C")
        entry = self.journal.open(request_id, request.method, request.path, request.headers)
        request[ENTRY] = entry
        try:
            self._admit(request)
            response = await handler(request)
            if entry.state in ("waiting", "streaming"):
                self.journal.move(entry, "completed")
            entry.status = response.status
        except (ApiError, web.HTTPException) as refused:
            response = self._refusal(entry, refused)
        except playback.BrokenOff:
            self.journal.move(entry, "faulted")
            response = web.Response()  # what was begun has been sent, or the connection is gone
        except ConnectionError:
            self.journal.move(entry, "client_closed")
            response = web.Response()  # for nobody
        except asyncio.CancelledError:
            self.journal.move(entry, "client_closed")
            raise
        finally:
            self._log_line(entry)
        return response

    def _admit(self, request: web.Request) -> None:
        """Lets through who has a key and names a version of the API."""
        key = _api_key(request)
        if not key:
            raise ApiError(401, "x-api-key header is required")
        if not key.isascii() or self._api_key not in ("", key):
            raise ApiError(401)
        version = request.headers.get("anthropic-version", "")
        if not version:
            raise invalid("anthropic-version: header is required")
        if not _VERSION.fullmatch(version):
            raise invalid(f'anthropic-version: "{version}" is not a valid version')

    def _refusal(self, entry: Entry, refused: ApiError | web.HTTPException) -> web.Response:
        if isinstance(refused, web.HTTPException):
            refused = ApiError(refused.status)
        entry.status = refused.status
        self.journal.move(entry, "rejected")
        headers = self._headers(entry)
        if refused.retry_after is not None:
            headers["retry-after"] = f"{refused.retry_after:g}"
        if refused.status in (429, 500, 503, 504, 529):
            headers["x-should-retry"] = "true"
        return web.Response(
            status=refused.status,
            body=refused.body(entry.request_id),
            content_type="application/json",
            headers=headers,
        )

    def _headers(self, entry: Entry) -> dict[str, str]:
        reset = (datetime.now(UTC) + timedelta(seconds=60)).strftime("%Y-%m-%dT%H:%M:%SZ")
        headers = {"request-id": entry.request_id, "anthropic-organization-id": "demo"}
        for name, limit, used in (
            ("requests", REQUESTS_PER_MINUTE, self._running),
            ("input-tokens", INPUT_TOKENS_PER_MINUTE, 0),
            ("output-tokens", OUTPUT_TOKENS_PER_MINUTE, 0),
            ("tokens", INPUT_TOKENS_PER_MINUTE + OUTPUT_TOKENS_PER_MINUTE, 0),
        ):
            headers[f"anthropic-ratelimit-{name}-limit"] = str(limit)
            headers[f"anthropic-ratelimit-{name}-remaining"] = str(max(0, limit - used))
            headers[f"anthropic-ratelimit-{name}-reset"] = reset
        return headers

    def _log_line(self, entry: Entry) -> None:
        """One line per request, with nothing in it that a person wrote."""
        if self._log is None:
            return
        fields: dict[str, object] = {
            "event": "request",
            "method": entry.method,
            "path": entry.path if entry.path.isprintable() and " " not in entry.path else "?",
            "status": entry.status or "-",
            "state": entry.state,
            "model": entry.model or "-",
            "stream": str(entry.stream).lower(),
            "body_bytes": len(entry.body),
            "output_tokens": entry.tokens_sent,
            "seconds": f"{(entry.ended_at or time.time()) - entry.started_at:.3f}",
            "request_id": entry.request_id,
        }
        self._log(" ".join(f"{name}={value}" for name, value in fields.items()))

    # --- messages

    async def _create_message(self, request: web.Request) -> web.StreamResponse:
        entry = request[ENTRY]
        asked = prompt.read(await self._body(request))
        entry.model, entry.stream = asked.model.id, asked.stream
        script = self.director.script_for(asked)
        self._running += 1
        try:
            await self._before_answering(request, script, asked)
            composed = self._compose(asked, script, request)
            entry.reply = composed
            if asked.stream:
                return await self._stream(request, asked, script, composed)
            return await self._whole(request, asked, script, composed)
        finally:
            self._running -= 1

    def _compose(self, asked: Prompt, script: Script, request: web.Request) -> reply.Reply:
        question = hashlib.blake2b(reply.question_of(asked).encode(), digest_size=16).hexdigest()
        if len(self._asked) >= MAX_QUESTIONS:
            self._asked.clear()
        asked_before = self._asked[question]
        self._asked[question] += 1
        return reply.compose(asked, script, self.cache.use(asked, _api_key(request)), asked_before)

    async def _stream(
        self, request: web.Request, asked: Prompt, script: Script, composed: reply.Reply
    ) -> web.StreamResponse:
        entry = request[ENTRY]
        response = web.StreamResponse(
            headers={
                "Content-Type": "text/event-stream; charset=utf-8",
                "Cache-Control": "no-cache",
                **self._headers(entry),
            }
        )
        if request.version >= HttpVersion11:
            response.enable_chunked_encoding()
        await response.prepare(request)
        entry.status = response.status
        self.journal.move(entry, "streaming")
        message = _message(asked, [], None, None, None, composed.start_usage())
        wire = playback.Wire(request, script)
        try:
            await playback.Performance(wire, composed, script, entry, message).play()
            self.journal.move(entry, "completed")
        except playback.BrokenOff:
            self.journal.move(entry, "faulted")
        return response

    async def _whole(
        self, request: web.Request, asked: Prompt, script: Script, composed: reply.Reply
    ) -> web.StreamResponse:
        """The answer in one piece, after the time it would have taken to stream it."""
        entry = request[ENTRY]
        pace = script.tokens_per_second
        await asyncio.sleep(script.first_token_seconds + (composed.output_tokens / pace if pace else 0.0))
        for fault in composed.faults:
            match fault:
                case Cut(reset=reset):
                    playback.close(request.transport, reset=reset)
                    raise playback.BrokenOff
                case Stall(seconds=seconds):
                    await playback.silence(seconds)
                case ErrorEvent(kind=kind, message=message):
                    raise ApiError(529 if kind == "overloaded_error" else 500, message, kind)
                case Garbage(data=data):
                    self.journal.move(entry, "faulted")
                    return web.Response(
                        text=data, content_type="application/json", headers=self._headers(entry)
                    )
                case _:
                    continue  # what else can go wrong in a stream has no counterpart here
        entry.thinking_tokens_sent = composed.thinking_tokens
        entry.text_tokens_sent = composed.output_tokens - composed.thinking_tokens
        entry.deltas_sent = len(composed.text or ())
        content: list[dict[str, Any]] = []
        if composed.thinking:
            shown = "".join(delta.text for delta in composed.thinking) if composed.shows_thinking else ""
            content.append({"type": "thinking", "thinking": shown, "signature": playback.SIGNATURE})
        if composed.text is not None:
            content.append({"type": "text", "text": entry.text_sent()})
        body = _message(
            asked,
            content,
            composed.stop_reason,
            composed.stop_sequence,
            composed.stop_details,
            composed.whole_usage(),
        )
        return web.json_response(body, headers=self._headers(entry))

    async def _count_tokens(self, request: web.Request) -> web.StreamResponse:
        entry = request[ENTRY]
        asked = prompt.read(await self._body(request), counting=True)
        entry.model = asked.model.id
        await self._before_answering(request, self.director.script_for(asked, takes_cue=False), asked)
        return web.json_response({"input_tokens": asked.tokens}, headers=self._headers(entry))

    async def _body(self, request: web.Request) -> dict[str, Any]:
        try:
            raw = await request.read()
        except web.RequestPayloadError as error:
            raise invalid("The request body could not be read.") from error
        self.journal.keep_body(request[ENTRY], raw)
        return prompt.decode(raw)

    async def _before_answering(self, request: web.Request, script: Script, asked: Prompt) -> None:
        """The faults that a request meets before its answer begins."""
        await playback.silence(script.wait_seconds)
        match script.before:
            case Status(code, message, kind, retry_after):
                raise ApiError(code, message, kind, retry_after)
            case TooLong():
                raise prompt.prompt_too_long(asked.model.context_tokens + asked.tokens, asked.model)
            case Hang():
                await playback.silence(math.inf)
            case Drop():
                playback.close(request.transport, reset=True)
                raise playback.BrokenOff

    # --- models

    async def _list_models(self, request: web.Request) -> web.StreamResponse:
        """A page of models, cut as the SDK's pagination asks for it."""
        query = request.query
        models = list(catalogue.MODELS)
        lifecycles = query.getall("lifecycle[]", [])
        if lifecycles:
            models = [model for model in models if model.info()["lifecycle"] in lifecycles]
        try:
            limit = int(query.get("limit", "20"))
        except ValueError as error:
            raise invalid("limit: Input should be a valid integer") from error
        if not 1 <= limit <= 1000:
            raise invalid("limit: Input should be between 1 and 1000")
        ids = [model.id for model in models]
        if (after := query.get("after_id")) in ids:
            models = models[ids.index(after) + 1 :]
            page = models[:limit]
        elif (before := query.get("before_id")) in ids:
            models = models[: ids.index(before)]
            page = models[-limit:]
        else:
            page = models[:limit]
        body = {
            "data": [model.info() for model in page],
            "has_more": len(page) < len(models),
            "first_id": page[0].id if page else None,
            "last_id": page[-1].id if page else None,
        }
        return web.json_response(body, headers=self._headers(request[ENTRY]))

    async def _show_model(self, request: web.Request) -> web.StreamResponse:
        name = request.match_info["model"]
        model = catalogue.find(name)
        if model is None:
            raise ApiError(404, f"model: {name}")
        return web.json_response(model.info(), headers=self._headers(request[ENTRY]))


def _api_key(request: web.Request) -> str:
    """The key, however it was sent; empty without one."""
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    return request.headers.get("X-Api-Key", "").strip() or (
        token.strip() if scheme.lower() == "bearer" else ""
    )


def _message(
    asked: Prompt,
    content: list[dict[str, Any]],
    stop_reason: str | None,
    stop_sequence: str | None,
    stop_details: dict[str, str] | None,
    usage: dict[str, Any],
) -> dict[str, Any]:
    return {
        "id": _new_id("msg_01"),
        "type": "message",
        "role": "assistant",
        "model": asked.model_name,
        "content": content,
        "stop_reason": stop_reason,
        "stop_sequence": stop_sequence,
        "stop_details": stop_details,
        "usage": usage,
    }


def _new_id(prefix: str) -> str:
    return prefix + secrets.token_hex(11)
