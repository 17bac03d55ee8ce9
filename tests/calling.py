"""The API as a program or a page in the browser calls it, answered in this process.

The API looks up its caller in a database thread, which sees committed rows only: tests that call it use
`committed_db`.
"""

import json
from typing import Any
from urllib.parse import urlencode

from django.http import HttpResponse
from django.test import Client
from django.test.client import ClientHandler

from accounts.models import ApiKey, User
from tests.conftest import signed_in

API = "/api/v1/"
PROBLEM = "application/problem+json"

# Each new handler would load the middleware, which looks at every static file.
_site = ClientHandler(enforce_csrf_checks=True)


def visitor() -> Client:
    """The browser of somebody who has not signed in, with all of Django's checks."""
    client = Client()
    client.handler = _site
    return client


def browser_of(user: User) -> Client:
    """A browser in which `user` has signed in. What it posts also needs the CSRF token: see `in_browser`."""
    client = visitor()
    for name, value in signed_in(user)["cookies"].items():
        client.cookies[name] = value
    return client


class Caller:
    """Calls the API with `headers`. What a call gives is its JSON; what it does not give is a `refusal`."""

    def __init__(self, client: Client, headers: dict[str, str]) -> None:
        self._client = client
        self._headers = headers

    def call(self, method: str, path: str, body: Any = None, **query: Any) -> HttpResponse:
        """`body` as JSON, or bytes as they are; None sends none."""
        url = API + path + (f"?{urlencode(query)}" if query else "")
        data = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
        return self._client.generic(method, url, data, content_type="application/json", headers=self._headers)

    def get(self, path: str, **query: Any) -> Any:
        return answered(self.call("GET", path, **query))

    def post(self, path: str, **body: Any) -> Any:
        return answered(self.call("POST", path, body), status=201)

    def patch(self, path: str, **body: Any) -> Any:
        return answered(self.call("PATCH", path, body))

    def delete(self, path: str) -> None:
        response = self.call("DELETE", path)
        assert (response.status_code, response.content) == (204, b"")

    def refusal(self, method: str, path: str, body: Any = None, **query: Any) -> tuple[int, dict[str, Any]]:
        """The status and the problem of a call that is refused."""
        return refused(self.call(method, path, body, **query))


def answered(response: HttpResponse, status: int = 200) -> Any:
    assert response.status_code == status, response.content
    return json.loads(response.content)


def refused(response: HttpResponse) -> tuple[int, dict[str, Any]]:
    assert response["Content-Type"] == PROBLEM, (response.status_code, response.content[:500])
    problem = json.loads(response.content)
    assert problem["status"] == response.status_code
    return response.status_code, problem


def in_browser(user: User) -> Caller:
    """With the session and the CSRF token of a page that `user` has open."""
    browser = browser_of(user)
    return Caller(browser, {"X-CSRFToken": browser.cookies["csrftoken"].value})


def with_key(user: User) -> Caller:
    """A program with one of the user's API keys."""
    _, token = ApiKey.issue(user=user, name="program")
    return Caller(visitor(), {"Authorization": f"Bearer {token}"})
