"""The JSON API, assembled."""

from billing.api import router as billing
from chatapp import problems
from chatapp.auth import SignedIn
from chatapp.conversations.api import router as conversations
from chatapp.openapi import DescribedAPI
from chatapp.parsing import StorableInput
from chatapp.streaming.api import router as turns
from chatapp.streaming.usage_api import router as usage

api = DescribedAPI(
    title="Chatapp",
    version="1",
    description=(
        "Chat with Claude on prepaid credits. Amounts are decimal strings of credits with six places.\n\n"
        "Errors are `application/problem+json` (RFC 9457) with a sentence in `detail` and a stable `code`: "
        + ", ".join(f"`{code}`" for code in problems.TITLES)
        + ". `rate_limited` and `unavailable` say in `Retry-After` when to try again; `internal` (500) is a mistake "
        "of ours. A field that a call does not have is `invalid`. After a stream has begun, errors are its last event."
    ),
    auth=SignedIn(),
    parser=StorableInput(),
    openapi_url="/openapi.json",
    docs_url=None,
    urls_namespace="api",
)
problems.install(api)
for router in (billing, conversations, turns, usage):
    api.add_router("", router)
