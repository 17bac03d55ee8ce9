"""Operators are told by mail what the nightly comparison with Stripe has found."""

import pytest
from allauth.account.models import EmailAddress
from django.core.mail import EmailMessage

from accounts.models import User
from billing import comparison, mails, reconciliation
from billing.comparison import Finding, Theirs
from billing.models import Discrepancy, Mail, Reconciliation
from tests.admin.desk import allow

FINDINGS = [
    Finding(Discrepancy.Kind.NOT_PAID, "cs_1", None, "The order is paid <here> only.", "nothing", "$5.00"),
    Finding(Discrepancy.Kind.NOT_CREDITED, "cs_2", None, "cs_2 was not credited.", "a", "b", mended=True),
]


@pytest.fixture
def found(monkeypatch: pytest.MonkeyPatch) -> list[Finding]:
    """What the next comparison finds."""
    found = list(FINDINGS)
    monkeypatch.setattr(comparison, "ask", lambda since: Theirs([], [], [], []))
    monkeypatch.setattr(comparison, "findings", lambda run, theirs: iter(found))
    return found


def told(*people: User) -> list[tuple[str, int]]:
    """Those of `people` who are owed news, and of how many; there may be other operators."""
    mails = Mail.objects.filter(kind="discrepancies", user__in=people)
    return sorted((mail.user.email, mail.facts["open"]) for mail in mails)


def test_those_who_may_look_into_it_are_told_once(
    alice: User,
    bob: User,
    charlie: User,
    operator: User,
    found: list[Finding],
    mailoutbox: list[EmailMessage],
) -> None:
    """Not who may not see it, nor who is no operator, nor an address that is nobody's for sure."""
    User.objects.filter(pk__in=[alice.pk, bob.pk, charlie.pk]).update(is_staff=True)
    allow(alice, "billing.view_order")
    allow(bob, "billing.view_discrepancy")
    allow(charlie, "billing.view_discrepancy")
    EmailAddress.objects.filter(user=charlie).update(verified=False)
    reconciliation.reconcile()
    staff = (alice, bob, charlie, operator)
    assert told(*staff) == sorted([(bob.email, 1), (operator.email, 1)])
    for mail in Mail.objects.filter(kind="discrepancies", user__in=staff):
        mails.deliver(mail.pk)
    body = str(mailoutbox[0].body)
    assert "The order is paid <here> only." in body
    assert "/admin/billing/discrepancy/" in body
    assert "&lt;here&gt;" in mailoutbox[0].alternatives[0].content  # type: ignore[attr-defined]

    # The same again is no news.
    found.pop()
    reconciliation.reconcile()
    assert len(told(*staff)) == 2


def test_what_a_run_found_that_was_cut_off_is_told_by_the_next(operator: User, found: list[Finding]) -> None:
    cut_off = Reconciliation.objects.create(since="2026-01-01T00:00Z")
    Discrepancy.objects.create(run=cut_off, kind="not_paid", says="x", expected="y", found="z")
    found.clear()
    reconciliation.reconcile()
    assert told(operator) == [(operator.email, 1)]
