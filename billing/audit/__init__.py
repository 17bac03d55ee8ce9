"""The proof of the books: each rule of the ledger, and the query that finds every row which breaks it.

The triggers of migration 0002_ledger_rules and those after it refuse what would break a rule; nothing here relies on
them. Everything is added up anew from the rows, in one snapshot of the database, so the system may go on working
meanwhile.
"""

from billing.audit import balances, guards, lots, purchases, transfers
from billing.audit.proof import Broken, Report, Rule, prove

RULES = (*balances.RULES, *transfers.RULES, *lots.RULES, *purchases.RULES, *guards.RULES)

__all__ = ["RULES", "Broken", "Report", "Rule", "prove"]
