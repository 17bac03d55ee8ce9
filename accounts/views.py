"""A person's settings. Signing in, addresses, passwords and second factors are django-allauth's pages."""

import uuid

from allauth.account.models import EmailAddress
from allauth.mfa.models import Authenticator
from django.conf import settings
from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.db.models.functions import Now
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods, require_POST

from accounts.forms import ApiKeyForm, ProfileForm
from accounts.models import ApiKey, ApiKeyQuerySet, User

# Hands a new token from the form to the page that shows it. It stays in the person's own browser: a session
# would keep the token in our database, where nothing but its hash may be.
NEW_TOKEN_COOKIE = "new_api_key"  # noqa: S105  a name, not a secret
NEW_TOKEN_SECONDS = 120


class PersonRequest(HttpRequest):
    """What arrives behind login_required."""

    user: User


@login_required
@require_http_methods(["GET", "HEAD", "POST"])
def profile(request: PersonRequest) -> HttpResponse:
    """The name, and the state of everything that signs this person in."""
    form = ProfileForm(request.POST or None, instance=request.user)
    if form.is_valid():
        form.save()
        messages.success(request, "Saved.")
        return redirect("settings")
    # A rejected form leaves its values on the instance, which the rest of the page also shows.
    request.user.refresh_from_db()
    factors = list(Authenticator.objects.filter(user=request.user).values_list("type", flat=True))
    context = {
        "form": form,
        "email_verified": EmailAddress.objects.filter(
            user=request.user, email__iexact=request.user.email, verified=True
        ).exists(),
        "has_password": request.user.has_usable_password(),
        "has_totp": Authenticator.Type.TOTP in factors,
        "passkeys": factors.count(Authenticator.Type.WEBAUTHN),
        "api_keys": _active_keys(request.user).count(),
        "providers": bool(settings.SOCIALACCOUNT_PROVIDERS),
    }
    return render(request, "settings/profile.html", context)


@login_required
@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
def api_keys(request: PersonRequest) -> HttpResponse:
    """The active keys, and a form for one more; after it, the new token, this once."""
    form = ApiKeyForm(request.POST or None, user=request.user)
    if form.is_valid():
        _, token = ApiKey.issue(user=request.user, name=form.cleaned_data["name"])
        return _keep_for_one_page(redirect("api_keys"), token)
    new_token = request.get_signed_cookie(NEW_TOKEN_COOKIE, "", max_age=NEW_TOKEN_SECONDS)
    context = {"form": form, "keys": _active_keys(request.user), "new_token": new_token}
    response = render(request, "settings/api_keys.html", context)
    if new_token:
        response.delete_cookie(NEW_TOKEN_COOKIE, path=reverse("api_keys"), samesite="Strict")
    return response


@login_required
@require_POST
def revoke_api_key(request: PersonRequest, key: uuid.UUID) -> HttpResponse:
    """End a key for good; ending it twice is the same as once."""
    found = get_object_or_404(ApiKey, user=request.user, pk=key)
    if _active_keys(request.user).filter(pk=found.pk).update(revoked_at=Now()):
        messages.success(request, f"The key “{found.name}” no longer works.")
    return redirect("api_keys")


def _active_keys(user: User) -> ApiKeyQuerySet:
    return ApiKey.objects.active().filter(user=user)


def _keep_for_one_page(response: HttpResponse, token: str) -> HttpResponse:
    response.set_signed_cookie(
        NEW_TOKEN_COOKIE,
        token,
        max_age=NEW_TOKEN_SECONDS,
        path=reverse("api_keys"),
        secure=settings.SESSION_COOKIE_SECURE,
        httponly=True,
        samesite="Strict",
    )
    return response
