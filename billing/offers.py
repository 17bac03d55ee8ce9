"""At what a model is sold at this moment: asked with every message, so in one small query.

The rows themselves are long and seldom change. They are kept in memory, and read anew as soon as PostgreSQL says that
there is another version of one of them.
"""

from functools import lru_cache

from billing.models import Price
from billing.models.catalogue import providers_with_a_key
from billing.sql import Statement

# A row's version is where it stands (ctid) and who wrote it (xmin): no change leaves both as they were. The time is
# read when it is asked: a statement's own is that of the first one sent with it, which may have waited for a lock.
NOW = """
SELECT price.id, price.version, (model.ctid, model.xmin)::text, (fallback.ctid, fallback.xmin)::text
FROM billing_languagemodel model
LEFT JOIN billing_languagemodel fallback ON fallback.id = model.fallback_id
CROSS JOIN LATERAL (
    SELECT id, (ctid, xmin)::text AS version FROM billing_price
    WHERE model_id = model.id AND effective_from <= (SELECT clock_timestamp())
    ORDER BY effective_from DESC LIMIT 1
) price
WHERE model.on_sale AND model.provider = ANY(%(providers)s)
    AND (model.retires_on IS NULL OR model.retires_on > (SELECT clock_timestamp()))
    AND (%(model)s::text IS NULL OR model.id = %(model)s)
ORDER BY model.position, model.id LIMIT 1
"""


def price_of(model_id: str | None) -> Statement[Price | None]:
    """The price in force of a model on sale, with the model and its fallback, of which nothing may be changed.

    Without a `model_id`, of the first one on sale. None if there is none.
    """
    values = {"providers": providers_with_a_key(), "model": model_id}
    return Statement(NOW, values, lambda found: _row(*found[0]) if found else None)


@lru_cache(maxsize=128)
def _row(price_id: int, *_versions: str) -> Price:
    return Price.objects.select_related("model__fallback").get(pk=price_id)
