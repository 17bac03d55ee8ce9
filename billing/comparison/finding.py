"""Something on which the books differ, and the attempt to mend it."""

from collections.abc import Callable
from dataclasses import dataclass

import structlog
from django.db import IntegrityError

from billing.errors import KeyReused, NotYetPaid, RequestRefused, WrongCurrency
from billing.models import Discrepancy, Order

log = structlog.get_logger(__name__)

Kind = Discrepancy.Kind


@dataclass(frozen=True, slots=True)
class Finding:
    """Something on which the books differ; `expected` as Stripe has it, `found` as we had it."""

    kind: Discrepancy.Kind
    stripe_id: str
    order: Order | None
    says: str
    expected: str
    found: str
    mended: bool = False


def attempt(mend: Callable[[], object]) -> None:
    """Do what an event would have done. What it cannot do stays as it is; PaymentUnavailable if Stripe is away."""
    try:
        mend()
    except (RequestRefused, NotYetPaid, WrongCurrency, KeyReused, IntegrityError) as error:
        log.warning("could not be mended", error=f"{type(error).__name__}: {error}")
