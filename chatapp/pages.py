"""The public page, the health of the process, and what a refused form is answered with."""

import asyncio
from typing import Any

from asgiref.sync import sync_to_async
from django.conf import settings
from django.core.cache import cache
from django.db import connection
from django.db.utils import DatabaseError
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import redirect, render
from django.views.decorators.cache import cache_control, never_cache
from django.views.decorators.http import require_safe
from redis.exceptions import RedisError

from billing.models import LanguageModel, Pack, Price
from billing.pricing import rates
from chatapp.celery import app as celery
from chatapp.db import in_db_within
from chatapp.problems import problem_response

# Who asks whether we are ready gives up soon.
READY_SECONDS = 2.0


@require_safe
def home(request: HttpRequest) -> HttpResponse:
    """What this is and what it costs; a signed-in person goes on to the chat."""
    if request.user.is_authenticated:
        return redirect("chat")
    context = {
        "models": [_priced(model) for model in LanguageModel.objects.on_sale()],
        "packs": Pack.objects.filter(on_sale=True) if settings.STRIPE_SECRET_KEY else [],
        "signup_credits": settings.SIGNUP_CREDITS,
    }
    return render(request, "home.html", context)


@require_safe
@cache_control(public=True, max_age=24 * 60 * 60)
def favicon(request: HttpRequest) -> HttpResponse:
    """Where browsers and link previews look for an icon that no page named to them.

    The name without the hash: a redirect that is remembered outlives the file that this release names by its content.
    """
    return redirect(f"{settings.STATIC_URL}img/favicon.svg", permanent=True)


@require_safe
@never_cache
def healthz(request: HttpRequest) -> HttpResponse:
    """The process is up and answers."""
    return JsonResponse({"status": "ok"})


@require_safe
@never_cache
async def readyz(request: HttpRequest) -> HttpResponse:
    """200 only while PostgreSQL answers; also tells whether Redis and a worker do, without which chat goes on."""
    database, (redis, worker) = await asyncio.gather(_database_answers(), sync_to_async(_others_answer)())
    return JsonResponse(
        {"database": database, "redis": redis, "worker": worker}, status=200 if database else 503
    )


def csrf_failure(request: HttpRequest, reason: str = "") -> HttpResponse:
    """A form or call whose CSRF token is missing or stale."""
    sentence = "This page was open too long or came from elsewhere. Reload it and try again."
    if request.path.startswith("/api/"):
        return problem_response(status=403, code="forbidden", detail=sentence)
    return render(request, "403_csrf.html", {"sentence": sentence}, status=403)


def _priced(model: LanguageModel) -> dict[str, Any]:
    price = Price.objects.now_for(model.id)
    rate = rates(price, prompt_tokens=0)
    return {
        "name": model.name,
        "description": model.description,
        # Microcredits per token are credits per million tokens.
        "input_credits": rate.input * price.markup,
        "output_credits": rate.output * price.markup,
    }


async def _database_answers() -> bool:
    try:
        return await in_db_within(READY_SECONDS, _ask_database)
    except DatabaseError:
        return False


def _others_answer() -> tuple[bool, bool]:
    redis = _answers(_ask_redis, RedisError)
    return redis, redis and _answers(_ask_worker, Exception)


def _answers(ask: Any, away: type[Exception]) -> bool:
    try:
        return bool(ask())
    except away:
        return False


def _ask_database() -> bool:
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")
        return cursor.fetchone() == (1,)


def _ask_redis() -> bool:
    cache.set("readyz", "ok", timeout=10)
    return cache.get("readyz") == "ok"


def _ask_worker() -> bool:
    return bool(celery.control.inspect(timeout=0.5, limit=1).ping())
