"""What Stripe has of the time that is compared."""

from dataclasses import dataclass, field
from datetime import datetime, timedelta

from billing.stripe_gateway import Session, lists
from billing.stripe_gateway.lists import PaidInvoice
from billing.stripe_gateway.payments import Payment
from billing.stripe_gateway.reversals import Reversal, disputes_since, refunds_since

# How long before it is paid, or decided, something may have been begun.
SESSION_TAKES = timedelta(days=1)
BANK_TAKES = INVOICE_TAKES = REFUND_TAKES = timedelta(days=30)
DISPUTE_TAKES = timedelta(days=120)


@dataclass(frozen=True, slots=True)
class Theirs:
    """What Stripe has of the time that is compared."""

    sessions: list[Session]
    payments: list[Payment]
    invoices: list[PaidInvoice]
    reversals: list[Reversal]
    ids: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        for rows in (self.sessions, self.payments, self.invoices, self.reversals):
            self.ids.update(row.id for row in rows)


def ask(since: datetime) -> Theirs:
    """Everything that Stripe has of it; PaymentUnavailable if Stripe is away."""
    return Theirs(
        sessions=lists.paid_sessions(since - SESSION_TAKES),
        payments=lists.paid_payments(since - SESSION_TAKES),
        invoices=lists.paid_invoices(since - INVOICE_TAKES),
        reversals=[*refunds_since(since - REFUND_TAKES), *disputes_since(since - DISPUTE_TAKES)],
    )
