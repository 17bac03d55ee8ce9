"""What dies, and when."""

import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from random import Random
from threading import Event

import psutil
from django.db import connections
from django.db.models.functions import Now

from accounts.models import User
from billing import audit, ledger, reconciliation
from billing.models import Discrepancy, Lot
from chatapp.conversations.models import Turn
from chatapp.local.demo_stripe.client import DemoStripe
from chatapp.streaming.audit import RULES
from chatapp.streaming.tasks import DEAD_AFTER, sweep
from tests.crash.people import LONGEST_AWAY_SECONDS, Person
from tests.crash.reckoning import Account
from tests.servers import wait_until
from tests.stack import Stack

MORTALS = ("web", "worker", "beat", "PostgreSQL backend", "PostgreSQL", "Valkey")

# Of a plan: its credits expire while people go on.
PERIOD_SECONDS = 20


@dataclass
class Crash:
    """Kills so many processes under the eyes of so many people."""

    stack: Stack
    users: Sequence[User]
    operator: User
    kills: int
    seed: int = 1
    killed: Counter[str] = field(default_factory=lambda: Counter(dict.fromkeys(MORTALS, 0)))

    def __post_init__(self) -> None:
        self.over = Event()
        self.stripe = DemoStripe(self.stack.stripe_url)
        self.webs = [self.stack.web, self.stack.start_web()]
        self.beat = self.stack.start_beat()
        sites = [web.url for web in self.webs]
        self.people = [
            Person(user, self.operator, sites, self.stripe, Random(self.seed + number), self.over)
            for number, user in enumerate(self.users)
        ]

    def run(self) -> Account:
        began = time.monotonic()
        self.stripe.faults(repeat=2, retry_seconds=0.1)
        self.stripe.periods_last(PERIOD_SECONDS)
        with ThreadPoolExecutor(len(self.people) + 4) as threads:
            work = [threads.submit(person.live) for person in self.people]
            work.append(threads.submit(self.lose_webhooks))
            rounds = (self.kill_webs, self.kill_servers, self.kill_workers)
            killing = [threads.submit(kill, Random(self.seed)) for kill in rounds]
            try:
                for some in killing:
                    some.result()
            finally:
                self.over.set()
            for some in work:
                some.result()
        seconds = time.monotonic() - began
        self.settle_down()
        return self.count(seconds)

    def close(self) -> None:
        for person in self.people:
            person.close()
        self.stripe.reset()

    # --- Killing

    def kill_webs(self, chance: Random) -> None:
        """One after the other: there is always one that answers, unless it misses something else."""
        while self.killed.total() < self.kills:
            web = chance.choice(self.webs)
            self.killed["web"] += 1
            web.kill()
            web.start()
            self.over.wait(chance.uniform(0.5, 2))

    def kill_servers(self, chance: Random) -> None:
        deaths = [self.kill_backend, self.kill_backend, self.kill_postgres, self.kill_valkey]
        while self.killed.total() < self.kills:
            chance.choice(deaths)(chance)
            self.over.wait(chance.uniform(0.2, 1.5))

    def kill_workers(self, chance: Random) -> None:
        """And beat, which has them work in time."""
        while self.killed.total() < self.kills:
            name, program = chance.choice(
                [("worker", self.stack.worker), ("worker", self.stack.worker), ("beat", self.beat)]
            )
            self.killed[name] += 1
            program.kill()
            program.start()
            self.over.wait(chance.uniform(2, 5))

    def kill_backend(self, chance: Random) -> None:
        """One that serves somebody; PostgreSQL then ends all others and recovers."""
        try:
            backends = [
                process
                for process in psutil.Process(self.stack.postgres.pid).children()
                if "chatapp" in " ".join(process.cmdline())
            ]
            if backends:
                chance.choice(backends).kill()
                self.killed["PostgreSQL backend"] += 1
        except psutil.NoSuchProcess:
            return

    def kill_postgres(self, _chance: Random) -> None:
        self.killed["PostgreSQL"] += 1
        self.stack.postgres.kill()
        self.stack.postgres.start()
        wait_until(self.stack.postgres.ready, "PostgreSQL serves again")

    def kill_valkey(self, _chance: Random) -> None:
        self.killed["Valkey"] += 1
        self.stack.valkey.kill()
        self.stack.valkey.start()
        wait_until(self.stack.valkey.ready, "Valkey serves again")

    def lose_webhooks(self) -> None:
        """Now they come twice, now not at all."""
        chance = Random(self.seed)
        while not self.over.wait(chance.uniform(0.5, 2)):
            self.stripe.faults(repeat=2, retry_seconds=0.1, drop=chance.random() < 0.3)

    # --- Afterwards

    def settle_down(self) -> None:
        """The last two die with all their turns; what they left is swept, and buyers who had not come back do."""
        for web in self.webs:
            web.kill()
        for web in self.webs:
            web.program.start()
        for web in self.webs:
            web.wait()
        self.killed["web"] += len(self.webs)
        connections.close_all()
        connections["default"].close_pool()
        running = Turn.objects.running().filter(user__in=self.users)

        def none_is_running() -> bool:
            for turn in running.all():  # each has no process any more; by now its heartbeat would be as old
                Turn.objects.filter(pk=turn.pk).update(heartbeat_at=turn.heartbeat_at - 2 * DEAD_AFTER)
            sweep()
            return not running.all().exists()

        wait_until(none_is_running, "the sweep has ended every turn", LONGEST_AWAY_SECONDS)
        self.stripe.faults()
        for person in self.people:
            person.end_subscriptions()
        for person in self.people:
            for session in person.paid:
                wait_until(
                    lambda person=person, session=session: person.come_back(session),  # type: ignore[misc]
                    "the return page answers",
                )

    def hold_against_stripe(self, account: Account) -> None:
        """What no webhook told is found by the nightly comparison; a second one finds nothing."""
        for _ in range(2):
            before = Discrepancy.objects.count()
            run = reconciliation.reconcile()
            account.note(run.error, "", "the comparison with Stripe's books")
        account.note(Discrepancy.objects.count(), before, "discrepancies that a comparison left")
        of_theirs = Discrepancy.objects.filter(order__user__in=self.users, mended=False)
        account.note([str(one.says) for one in of_theirs], [], "discrepancies that were not mended")

    def expire(self, account: Account) -> None:
        """Book what is over by now, as beat has it done each minute."""
        ended = Lot.objects.filter(account__user__in=self.users, expires_at__lte=Now())
        over = list(ended.values_list("pk", flat=True))
        ledger.expire_everywhere()
        left = Lot.objects.filter(pk__in=over, remaining__gt=0)
        account.note(list(left), [], "lots whose time is over")

    def count(self, seconds: float) -> Account:
        account = Account(killed=self.killed, seconds=seconds)
        self.hold_against_stripe(account)
        self.expire(account)
        for person in self.people:
            account.tried += person.tried
            account.add(person)
        account.note(self.beat.running, True, "beat runs")
        report = audit.prove(RULES)
        account.wrong += [str(row) for rows in report.broken.values() for row in rows]
        return account
