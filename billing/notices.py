"""Telling people that few credits are left: once each time their balance falls below what they set."""

import uuid

from django.db import transaction
from django.db.models import Q
from django.db.models.functions import Coalesce

from accounts.models import User
from billing import ledger, mails
from billing.models import Account, AutoTopUp, LowBalanceNotice, Transfer
from billing.models.notices import DEFAULT_THRESHOLD


def worth_a_look(user_ids: set[uuid.UUID]) -> list[uuid.UUID]:
    """Those of the people who spent just now whose wallet may have become low, by what they set."""
    threshold = Coalesce("user__low_balance_notice__threshold", DEFAULT_THRESHOLD)
    tops_up = Q(user__in=AutoTopUp.objects.running().values("user"))
    low = Account.objects.filter(Q(balance__lt=threshold) | tops_up, user__in=user_ids)
    return list(low.values_list("user_id", flat=True))


def low_balance(user: User) -> bool:
    """Mail `user` if their balance has fallen below their threshold since it was last above; whether it did.

    What running answers hold counts as still there, as most of it comes back: a hold is the worst case.
    """
    wallet = ledger.wallet_of(user)
    if wallet.balance >= notice_of(user).threshold:
        return False
    with transaction.atomic():
        notice = _locked_notice_of(user)
        latest = _latest(wallet)
        # A movement and the balance after it are one row, so they belong together whatever happens meanwhile.
        if latest is None or (balance := latest.balance_after or 0) >= notice.threshold:
            return False
        if notice.threshold == 0 or not _was_above_since(notice, wallet):
            return False
        notice.told_at = latest
        notice.save(update_fields=["told_at"])
        mails.low_balance(user, balance=balance, threshold=notice.threshold, since=latest.pk)
        return True


def notice_of(user: User) -> LowBalanceNotice:
    """What a person set, or the default."""
    return LowBalanceNotice.objects.filter(user=user).first() or LowBalanceNotice(user=user)


def set_low_balance(user: User, threshold: int) -> None:
    """From now on tell `user` below `threshold` microcredits, or never if it is 0.

    Whoever is below it at this moment sees so on the page, and is told when it happens again.
    """
    with transaction.atomic():
        notice = _locked_notice_of(user)
        notice.threshold = threshold
        notice.told_at = _latest(ledger.wallet_of(user))
        notice.save(update_fields=["threshold", "told_at"])


def _locked_notice_of(user: User) -> LowBalanceNotice:
    LowBalanceNotice.objects.bulk_create([LowBalanceNotice(user=user)], ignore_conflicts=True)
    return LowBalanceNotice.objects.select_for_update().get(user=user)


def _latest(wallet: Account) -> Transfer | None:
    sides = [
        Transfer.objects.filter(**{side: wallet}).order_by("-id").first() for side in ("debit", "credit")
    ]
    return max((transfer for transfer in sides if transfer), key=lambda transfer: transfer.pk, default=None)


def _was_above_since(notice: LowBalanceNotice, wallet: Account) -> bool:
    """Whether the balance was at the threshold or above at, or after, the movement at which the person was told."""
    told = notice.told_at
    if told is None or (told.balance_after or 0) >= notice.threshold:
        return True
    # Only what comes in raises a balance, and that is seldom.
    came = Transfer.objects.filter(credit=wallet, pk__gt=told.pk)
    return came.filter(balance_after__gte=notice.threshold).exists()
