"""Credits, prices and sales as the operator sees them."""

from billing.admin import catalogue, ledger, shop

__all__ = ["catalogue", "ledger", "shop"]
