"""Credits, prices and sales as the operator sees them."""

from billing.admin import catalogue, ledger, plans, reconciliation, shop

__all__ = ["catalogue", "ledger", "plans", "reconciliation", "shop"]
