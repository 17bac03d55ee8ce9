"""What billing does in the worker."""

from celery import shared_task

from billing import ledger


@shared_task
def expire_lots() -> None:
    """Book what has expired, in every wallet."""
    ledger.expire_everywhere()
