"""Who calls the API, and how often: a signed-in browser with its CSRF token, or a program with a Bearer key."""

from django.conf import settings
from django.contrib.auth import get_user
from django.http import HttpRequest
from ninja.errors import AuthenticationError
from ninja.security.base import AuthBase
from ninja.utils import check_csrf

from accounts.addresses import client_network
from accounts.models import ApiKey, User
from chatapp import key_uses, windows
from chatapp.db import PATIENCE_SECONDS, in_db_within
from chatapp.problems import Problem, rate_limited

# From one address. A right key is taken however many wrong ones came: neighbours must not lock each other out, and 256
# random bits are not guessed.
WRONG_KEYS_PER_MINUTE = 60


class SignedIn(AuthBase):
    """Gives the calling User, or answers 401 (or 403 for a browser call without its CSRF token, or 429).

    `request.api_key` is the public part of the key that a program called with, empty for a browser.
    """

    openapi_type = "http"
    openapi_scheme = "bearer"
    openapi_description = "An API key, or a session cookie with the X-CSRFToken header."

    async def __call__(self, request: HttpRequest) -> User:
        header = request.headers.get("Authorization", "")
        if header:
            user, api_key, is_news = await in_db_within(
                PATIENCE_SECONDS, _user_with_key, header, client_network(request)
            )
            if is_news:
                key_uses.note(api_key)
        else:
            user, api_key = await in_db_within(PATIENCE_SECONDS, _user_with_session, request), ""
            if user is not None and check_csrf(request) is not None:
                raise Problem(
                    403, "forbidden", "The CSRF token is missing or stale. Reload the page and try again."
                )
        if user is None:
            raise AuthenticationError()
        # What later middleware would look up lazily, from a connection that nobody hands back.
        request._cached_user = user  # type: ignore[attr-defined]
        request.api_key = api_key  # type: ignore[attr-defined]
        return user


def _user_with_key(header: str, network: str) -> tuple[User | None, str, bool]:
    """The caller, the public part of their key, and whether its use is to be noted."""
    scheme, _, token = header.partition(" ")
    token = token.strip()
    user, is_news = ApiKey.objects.owner_of(token) if scheme.lower() == "bearer" else (None, False)
    if user is None:
        seconds = windows.take("wrong-keys", network, per_minute=WRONG_KEYS_PER_MINUTE)
        if seconds:
            detail = (
                f"Too many calls without an active API key came from your address. Try again in {seconds} s."
            )
            raise rate_limited(detail, seconds=seconds)
        return None, "", False
    api_key = token.partition(".")[0]
    _count_call("key", api_key)
    return user, api_key, is_news


def _user_with_session(request: HttpRequest) -> User | None:
    user = get_user(request)
    if not isinstance(user, User) or not user.is_active:
        return None
    _count_call("person", str(user.pk))
    return user


def _count_call(kind: str, who: str) -> None:
    """One more call of this key, or of this person's pages."""
    seconds = windows.take(f"calls/{kind}", who, per_minute=settings.API_REQUESTS_PER_MINUTE)
    if seconds:
        detail = f"This API takes {settings.API_REQUESTS_PER_MINUTE:,} requests a minute. Try again in {seconds} s."
        raise rate_limited(detail, seconds=seconds)
