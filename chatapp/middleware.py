"""Django's middleware without detours through threads.

Django runs the hooks of its own middleware in a thread, one round trip for each hook of each request, because
a hook might wait for something. The hooks named here only look at headers and cookies, so they run where the request
is. Should one come to touch the database after all, Django's guard against queries in an event loop says so.
"""

from typing import Any

import structlog
from asgiref.sync import sync_to_async
from csp.middleware import CSPMiddleware
from django.conf import settings
from django.contrib.auth.middleware import AuthenticationMiddleware
from django.contrib.messages import get_messages
from django.contrib.messages.middleware import MessageMiddleware
from django.contrib.sessions.middleware import SessionMiddleware
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.middleware.clickjacking import XFrameOptionsMiddleware
from django.middleware.common import CommonMiddleware
from django.middleware.csrf import CsrfViewMiddleware
from django.middleware.security import SecurityMiddleware
from django.template.loader import render_to_string
from django.utils.deprecation import MiddlewareMixin
from servestatic.middleware import ServeStaticMiddleware

from billing.away import DATABASE_AWAY
from chatapp.problems import PROBLEM_JSON, problem_response, too_large

log = structlog.get_logger(__name__)

SAFE_METHODS = {"GET", "HEAD", "OPTIONS", "TRACE"}


class InPlace:
    """Runs `process_request` and `process_response` in the event loop. Stands before Django's class among the bases."""

    get_response: Any

    async def __acall__(self, request: HttpRequest) -> HttpResponseBase:
        before = getattr(self, "process_request", None)
        after = getattr(self, "process_response", None)
        response = before(request) if before is not None else None
        if response is None:
            response = await self.get_response(request)
        return response if after is None else after(request, response)


class Security(InPlace, SecurityMiddleware):
    pass


class ContentSecurityPolicy(InPlace, CSPMiddleware):
    pass


class Common(InPlace, CommonMiddleware):
    pass


class Authentication(InPlace, AuthenticationMiddleware):
    pass


class XFrameOptions(InPlace, XFrameOptionsMiddleware):
    pass


class Csrf(InPlace, CsrfViewMiddleware):
    async def process_view(self, request: HttpRequest, view: Any, *arguments: Any) -> HttpResponseBase | None:  # type: ignore[override]
        """A check that may fail runs in a thread, where the page that says so can be rendered."""
        if request.method in SAFE_METHODS or getattr(view, "csrf_exempt", False):
            return super().process_view(request, view, *arguments)
        return await sync_to_async(super().process_view)(request, view, *arguments)


class Session(SessionMiddleware):
    get_response: Any

    async def __acall__(self, request: HttpRequest) -> HttpResponseBase:
        """Only a session that changed is worth a thread: to be saved."""
        self.process_request(request)
        response = await self.get_response(request)
        if request.session.modified:
            return await sync_to_async(self.process_response)(request, response)
        return self.process_response(request, response)


class Messages(MessageMiddleware):
    get_response: Any

    async def __acall__(self, request: HttpRequest) -> HttpResponseBase:
        """Only messages that were shown or added are worth a thread: they may be kept in the session."""
        self.process_request(request)
        response = await self.get_response(request)
        storage: Any = get_messages(request)
        if storage.used or storage.added_new:
            return await sync_to_async(self.process_response)(request, response)
        return response


class Static(ServeStaticMiddleware):
    async def __call__(self, request: HttpRequest) -> HttpResponseBase:
        """Look for a file only where files are: under DEBUG each look is one at the disk, in a thread."""
        if request.path_info.startswith(settings.STATIC_URL):
            return await super().__call__(request)
        return await self.get_response(request)


class DatabaseAway(InPlace, MiddlewareMixin):
    """Answers a page that needs the database with 503 while it is away, full or read-only; the API does its own."""

    def process_exception(self, request: HttpRequest, error: Exception) -> HttpResponseBase | None:
        if not isinstance(error, DATABASE_AWAY):
            return None
        log.error("database unavailable", error=type(error).__name__)
        response = HttpResponse(render_to_string("503.html"), status=503)
        response["Retry-After"] = "5"
        return response


class ApiProblem(InPlace, MiddlewareMixin):
    """Says as a problem what Django and ninja themselves answer to a call that the API does not have.

    And what is wrong with a call before anybody looks at what it asks for.
    """

    def process_request(self, request: HttpRequest) -> HttpResponseBase | None:
        """Refuse a body that is too large, also where a call would not read it. Its length may be a lie, or missing:
        `StorableInput` measures what it reads."""
        if not request.path.startswith("/api/"):
            return None
        declared = request.META.get("CONTENT_LENGTH", "")
        if not declared.isdecimal() or int(declared) <= settings.DATA_UPLOAD_MAX_MEMORY_SIZE:
            return None
        return too_large().response()

    def process_response(self, request: HttpRequest, response: HttpResponseBase) -> HttpResponseBase:
        if not request.path.startswith("/api/") or response.get("Content-Type") == PROBLEM_JSON:
            return response
        if response.status_code == 404:
            return problem_response(status=404, code="not_found", detail="There is nothing at this address.")
        if response.status_code == 405:
            allowed = ", ".join(sorted(response["Allow"].split(", ")))
            detail = f"{request.method} is not possible at this address, only {allowed}."
            return problem_response(
                status=405, code="method_not_allowed", detail=detail, headers={"Allow": allowed}
            )
        return response
