"""HTTP and WebSocket entry."""

import os

from channels.auth import AuthMiddlewareStack
from channels.routing import ProtocolTypeRouter, URLRouter
from channels.security.websocket import AllowedHostsOriginValidator
from django.core.asgi import get_asgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "chatapp.settings")
http = get_asgi_application()

from django.core.signals import request_started  # noqa: E402
from django.db import close_old_connections, reset_queries  # noqa: E402
from django.urls import path  # noqa: E402

from chatapp.conversations.consumers import PageConsumer, RefusingWhileAway  # noqa: E402

# Both look for what an earlier request left in this one's thread. Django takes a new thread for each request that comes
# to need one: these would be the only reason why every request does, before it is even looked at.
request_started.disconnect(reset_queries)
request_started.disconnect(close_old_connections)

application = ProtocolTypeRouter(
    {
        "http": http,
        "websocket": RefusingWhileAway(
            AllowedHostsOriginValidator(AuthMiddlewareStack(URLRouter([path("ws/", PageConsumer.as_asgi())])))
        ),
    }
)
