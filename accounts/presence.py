"""Whether whoever asks has shown just now that it is them: by signing in, or by confirming it once more.

Allauth keeps no record of a sign-up, and takes who has neither password nor second factor for somebody who has just
confirmed, because there is nothing to ask them for. Both are told here by when their session began.
"""

import json
import time

from allauth.account import app_settings
from allauth.account.internal.flows.reauthentication import (
    STATE_SESSION_KEY,
    did_recently_reauthenticate,
    get_reauthentication_flows,
)
from allauth.core.exceptions import ReauthenticationRequired
from allauth.utils import get_request_param
from django.contrib import messages
from django.contrib.auth import REDIRECT_FIELD_NAME, logout
from django.contrib.auth.views import redirect_to_login
from django.http import HttpRequest, HttpResponseBase

from accounts.models import User

SIGNED_IN_AT = "signed_in_at"


def note_sign_in(request: HttpRequest) -> None:
    """Somebody has signed in to this session, by whatever means."""
    request.session[SIGNED_IN_AT] = time.time()


def ask_again(request: HttpRequest, user: User) -> HttpResponseBase | None:
    """Nothing if they have shown within the last minutes that it is them. Else where they show it.

    Who has something to confirm with is asked for that (ReauthenticationRequired), and then their request is done.
    Others are signed out, and sign in anew.
    """
    since = time.time() - request.session.get(SIGNED_IN_AT, 0)
    if since < app_settings.REAUTHENTICATION_TIMEOUT:
        return None
    if not get_reauthentication_flows(user):
        logout(request)
        messages.info(request, "Sign in once more to show that it is you. Nothing was changed.")
        return redirect_to_login(request.get_full_path())
    if not did_recently_reauthenticate(request):
        raise ReauthenticationRequired
    return None


def is_to_resume(request: HttpRequest, path: str) -> bool:
    """Whether who confirms on this page has a request to `path` done by that: allauth keeps the last one it put off,
    and takes it up if the page is to lead there. A bare link to the page puts nothing off.
    """
    suspended = request.session.get(STATE_SESSION_KEY, {}).get("request")
    leads_there = get_request_param(request, REDIRECT_FIELD_NAME) == path
    return leads_there and suspended is not None and json.loads(suspended)["path"] == path
