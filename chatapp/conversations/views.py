"""The chat page: the conversation, and the list beside it."""

from typing import Any, cast
from uuid import UUID

from django.conf import settings
from django.contrib.auth.decorators import login_required
from django.http import Http404, HttpRequest, HttpResponse
from django.middleware.csrf import get_token
from django.shortcuts import render
from django.urls import reverse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from accounts.models import INSTRUCTIONS_LENGTH, User
from billing import ledger, welcome
from billing.api import models_offered
from billing.credits import as_string
from billing.models import Account
from chatapp.conversations.api import Listing, MessagePage, conversations_page, messages_page
from chatapp.conversations.models import Conversation
from chatapp.conversations.shapes import conversation_out


@require_safe
@never_cache
@login_required
def chat(request: HttpRequest, conversation_id: UUID | None = None) -> HttpResponse:
    """The app, with all it shows first already in the page."""
    user = cast(User, request.user)
    conversation = None
    if conversation_id is not None:
        found = Conversation.objects.of(user).with_running_turn()
        conversation = found.filter(pk=conversation_id).first()
        if conversation is None:
            raise Http404("There is no such conversation.")
    wallet = ledger.wallet_of(user)
    get_token(request)  # the page's calls need the CSRF cookie
    context = {
        "conversation": conversation,
        "bootstrap": bootstrap(user, wallet, conversation),
        "wallet": wallet,
        "instructions_length": INSTRUCTIONS_LENGTH,
        "welcomed_before": welcome.were_had_before(user, wallet),
    }
    return render(request, "chat/chat.html", context)


def bootstrap(user: User, wallet: Account, conversation: Conversation | None) -> dict[str, Any]:
    """What the page's scripts begin with, in the shapes of the API."""
    return {
        "user": {"email": user.email, "name": user.name, "instructions": user.instructions},
        "models": [model.dict() for model in models_offered()],
        "conversation": conversation and conversation_out(conversation).dict(),
        "messages": conversation and messages_page(conversation, MessagePage()).dict(),
        "conversations": conversations_page(user, Listing()).dict(),
        "balance": {"available": as_string(wallet.available), "held": as_string(wallet.held)},
        "patience_seconds": settings.TURN_RECONNECT_SECONDS,
        "urls": {
            "chat": reverse("chat"),
            "billing": reverse("billing"),
            "settings": reverse("settings"),
            "login": reverse("account_login"),
            "logout": reverse("account_logout"),
            "admin": reverse("admin:index") if user.is_staff else None,
        },
    }
