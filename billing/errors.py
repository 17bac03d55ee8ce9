"""What billing refuses, each with the rule that was broken."""

from billing.credits import as_string


class BillingError(Exception):
    """Something billing refuses; `code` is stable, `str()` is a sentence for the person."""

    code = "invalid"


class InsufficientCredits(BillingError):
    """A balance does not afford what was asked; amounts in microcredits."""

    code = "insufficient_credits"

    def __init__(self, *, available: int, needed: int) -> None:
        super().__init__(
            f"This needs at least {as_string(needed)} credits and {as_string(available)} are available. "
            "Top up to go on."
        )
        self.available = available
        self.needed = needed


class CreditsExpired(BillingError):
    """Credits expired between the look at a wallet and the hold on it: what is left may afford something smaller."""


class KeyReused(BillingError):
    """An idempotency key was used again for a transfer of other content."""


class HoldEnded(BillingError):
    """A hold was settled or released before; it ends once."""


class PaymentUnavailable(BillingError):
    """Stripe could not be reached or refused; nothing was bought."""

    code = "unavailable"


class RequestRefused(PaymentUnavailable):
    """Stripe was reached and did not accept what was asked: asking again will not help."""


class PermissionRefused(RequestRefused):
    """Our key may not read or do at Stripe what was asked."""


class NotThere(RequestRefused):
    """Stripe does not have what was asked for."""


class CustomerForgotten(RequestRefused):
    """Stripe does not know the customer any more: somebody deleted them there."""


class PaymentRefused(BillingError):
    """A bank did not let a payment through; `reason` is Stripe's word for why, `payment` Stripe's id of it, if any."""

    code = "payment_refused"

    def __init__(self, *, reason: str, payment: str = "") -> None:
        super().__init__("Your bank did not let this payment through. Nothing was charged.")
        self.reason = reason
        self.payment = payment


class SubscriptionRefused(BillingError):
    """What was asked of a subscription does not go with what it is now; nothing was changed."""


class NotYetPaid(BillingError):
    """A refund or dispute of a payment that has not been credited yet; nothing was changed."""


class WrongCurrency(BillingError):
    """A refund or dispute is not in the currency that its order was paid in; nothing was changed."""


class AlreadyReconciling(BillingError):
    """The books are being held against Stripe's at this moment; that is done by one at a time."""


class EventRejected(BillingError):
    """A webhook call is not a genuine event of Stripe's that we understand; nothing was changed."""
