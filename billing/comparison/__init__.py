"""Each payment, refund and dispute at Stripe looked for in our books, and each credit of ours at Stripe.

What an event would have done, had it come, is done in the same repeat-safe way. The rest is for a person to look into.
"""

from collections.abc import Iterator

from billing.comparison.finding import Finding
from billing.comparison.money_back import of_reversal, of_transfer, taken_back
from billing.comparison.orders import credited, credited_twice, of_credit, paid_by_nobody
from billing.comparison.payments import of_invoice, of_payment, of_session, of_waiting, waiting
from billing.comparison.theirs import Theirs, ask
from billing.models import Reconciliation

__all__ = ["Finding", "Theirs", "ask", "credited", "findings"]


def findings(run: Reconciliation, theirs: Theirs) -> Iterator[Finding]:
    """Everything on which the books differ. What can be mended has been when it comes out."""
    for session in theirs.sessions:
        yield from of_session(session)
    through_sessions = {session.payment_intent for session in theirs.sessions}
    for payment in theirs.payments:
        if payment.id not in through_sessions:
            yield from of_payment(payment)
    for invoice in theirs.invoices:
        yield from of_invoice(invoice)
    for order in waiting(run):
        yield from of_waiting(order)
    for order in credited(run):
        yield from of_credit(order, theirs)
    yield from credited_twice(run)
    for reversal in theirs.reversals:
        yield from of_reversal(reversal)
    for transfer in taken_back(run):
        yield from of_transfer(transfer, theirs)
    # After the reversals: what was refunded needs nobody any more.
    yield from paid_by_nobody(run)
