"""The worker's application and the beat schedule."""

import os

from celery import Celery
from celery.schedules import crontab
from celery.signals import setup_logging

from chatapp import broker

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "chatapp.settings")

broker.use()
app = Celery("chatapp")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()

app.conf.beat_schedule = {
    "sweep-turns-left-behind": {
        "task": "chatapp.streaming.tasks.sweep",
        # Somebody may be waiting to be told: this is the part of the wait that costs no certainty (LATE_AFTER and
        # COMES_BACK_SECONDS there are the other).
        "schedule": 2.0,
        # By two hosts' clocks, which may differ; one too many does no harm.
        "options": {"expires": 60},
    },
    "record-usage-the-broker-missed": {
        "task": "chatapp.streaming.tasks.record_missing_usage",
        "schedule": 60.0,
        "options": {"expires": 60},
    },
    "expire-credits": {
        "task": "billing.tasks.expire_lots",
        "schedule": 60.0,
        "options": {"expires": 60},
    },
    "send-mails-that-could-not-leave": {
        "task": "billing.tasks.send_waiting_mails",
        "schedule": 60.0,
        "options": {"expires": 60},
    },
    "top-up-automatically": {
        "task": "billing.tasks.top_up",
        "schedule": 60.0,
        "options": {"expires": 60},
    },
    "end-subscriptions-of-nobody": {
        "task": "billing.tasks.end_subscriptions_of_nobody",
        "schedule": 60.0,
        "options": {"expires": 60},
    },
    "close-pages-of-nobody": {
        "task": "billing.tasks.close_pages_of_nobody",
        "schedule": 60.0,
        "options": {"expires": 60},
    },
    "hold-the-books-against-stripes": {
        "task": "billing.tasks.reconcile",
        "schedule": crontab(hour="3", minute="17"),
        "options": {"expires": 6 * 3600},
    },
}


@setup_logging.connect
def use_django_logging(**_kwargs: object) -> None:
    """Keep Celery from replacing the structured logs that settings.LOGGING describes."""
    from django.conf import settings
    from django.utils.log import configure_logging

    configure_logging(settings.LOGGING_CONFIG, settings.LOGGING)
