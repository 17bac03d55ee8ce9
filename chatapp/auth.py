"""Who calls the API: a signed-in browser with its CSRF token, or a program with a Bearer key."""

from django.contrib.auth import get_user
from django.http import HttpRequest
from ninja.errors import AuthenticationError
from ninja.security.base import AuthBase
from ninja.utils import check_csrf

from accounts.models import ApiKey, User
from chatapp.db import in_db
from chatapp.problems import Problem


class SignedIn(AuthBase):
    """Gives the calling User, or answers 401 (or 403 for a browser call without its CSRF token)."""

    openapi_type = "http"
    openapi_scheme = "bearer"
    openapi_description = "An API key, or a session cookie with the X-CSRFToken header."

    async def __call__(self, request: HttpRequest) -> User:
        header = request.headers.get("Authorization", "")
        if header:
            user = await in_db(_user_with_key, header)
        else:
            user = await in_db(_user_with_session, request)
            if user is not None and check_csrf(request) is not None:
                raise Problem(
                    403, "forbidden", "The CSRF token is missing or stale. Reload the page and try again."
                )
        if user is None:
            raise AuthenticationError()
        # What later middleware would look up lazily, from a connection that nobody hands back.
        request._cached_user = user  # type: ignore[attr-defined]
        return user


def _user_with_key(header: str) -> User | None:
    scheme, _, token = header.partition(" ")
    return ApiKey.objects.owner_of(token.strip()) if scheme.lower() == "bearer" else None


def _user_with_session(request: HttpRequest) -> User | None:
    user = get_user(request)
    return user if isinstance(user, User) and user.is_active else None
