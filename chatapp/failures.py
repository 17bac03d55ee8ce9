"""How an answer can fail, in words for the person; the code is what clients rely on."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Failure:
    message: str
    retryable: bool


FAILURES = {
    "rate_limited": Failure(
        "The model is answering too many requests right now. Try again in a moment.", True
    ),
    "overloaded": Failure("The model is overloaded right now. Try again in a moment.", True),
    "context_too_long": Failure(
        "This message is longer than the model can read. Shorten it, or send it in parts.",
        False,
    ),
    "provider_rejected": Failure("The model did not accept this request. The operator has been told.", False),
    "provider_unavailable": Failure("The model cannot be reached right now. Try again in a moment.", True),
    "provider_cut": Failure(
        "The answer broke off before its end. What arrived is kept; you were not charged.", True
    ),
    "refused": Failure(
        "The model declined to answer this. You were not charged; try to ask differently.", False
    ),
    "interrupted": Failure("The answer was interrupted on our side. You were not charged.", True),
}
