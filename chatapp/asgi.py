"""HTTP and WebSocket entry."""

import os

from channels.auth import AuthMiddlewareStack
from channels.routing import ProtocolTypeRouter, URLRouter
from channels.security.websocket import AllowedHostsOriginValidator
from django.core.asgi import get_asgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "chatapp.settings")
http = get_asgi_application()

from django.urls import path  # noqa: E402

from chatapp.conversations.consumers import PageConsumer, RefusingWhileAway  # noqa: E402

application = ProtocolTypeRouter(
    {
        "http": http,
        "websocket": RefusingWhileAway(
            AllowedHostsOriginValidator(AuthMiddlewareStack(URLRouter([path("ws/", PageConsumer.as_asgi())])))
        ),
    }
)
