"""What billing does in the worker."""

from uuid import UUID

import structlog
from celery import shared_task
from django.conf import settings

from accounts.models import User
from billing import closing, ledger, mails, notices, reconciliation, subscriptions, topups
from billing.away import later_if_the_database_is_away
from billing.errors import AlreadyReconciling

log = structlog.get_logger(__name__)


@shared_task
@later_if_the_database_is_away
def expire_lots() -> None:
    """Book what has expired, in every wallet."""
    ledger.expire_everywhere()


@shared_task
@later_if_the_database_is_away
def look_after_wallet(user_id: str) -> None:
    """See to a wallet that has just been spent from."""
    user = User.objects.filter(pk=UUID(user_id)).first()
    if user is not None:
        topups.consider(user.pk)
        notices.low_balance(user)


@shared_task
@later_if_the_database_is_away
def top_up() -> None:
    """Finish the automatic top-ups that were left behind, and make those that nobody's spending asks for."""
    topups.finish_left_behind()
    topups.consider_all()


@shared_task
@later_if_the_database_is_away
def end_subscriptions_of_nobody() -> None:
    """Stop what people who are gone would go on paying for."""
    subscriptions.end_those_of_nobody()


@shared_task
@later_if_the_database_is_away
def close_pages_of_nobody() -> None:
    """Close the pages on which people who are gone would pay for nothing."""
    closing.close_pages_of_nobody()


@shared_task
@later_if_the_database_is_away
def send_mail(mail_id: int) -> None:
    """Send a mail that somebody is owed, once however often it is called."""
    mails.deliver(mail_id)


@shared_task
@later_if_the_database_is_away
def send_waiting_mails() -> None:
    """Send the mails that could not leave when they were written."""
    if sent := mails.deliver_waiting():
        log.info("mails sent late", mails=sent)


@shared_task(time_limit=3600)
@later_if_the_database_is_away
def reconcile() -> None:
    """Hold the books against Stripe's, where there is a Stripe."""
    if not settings.STRIPE_SECRET_KEY:
        return
    try:
        reconciliation.reconcile()
    except AlreadyReconciling:
        log.info("reconciliation is going on")
