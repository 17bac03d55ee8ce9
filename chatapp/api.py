"""The JSON API, assembled."""

from ninja import NinjaAPI

from billing.api import router as billing
from chatapp import problems
from chatapp.auth import SignedIn
from chatapp.conversations.api import router as conversations
from chatapp.parsing import StorableInput
from chatapp.streaming.api import router as turns

api = NinjaAPI(
    title="Chatapp",
    version="1",
    description="Chat with Claude on prepaid credits. Amounts are decimal strings of credits with six places.",
    auth=SignedIn(),
    parser=StorableInput(),
    openapi_url="/openapi.json",
    docs_url=None,
    urls_namespace="api",
)
problems.install(api)
for router in (billing, conversations, turns):
    api.add_router("", router)
