"""People: who signs in, and the keys with which their programs do."""

import hashlib
import hmac
import secrets
import uuid
from collections.abc import Collection
from typing import Any, ClassVar, Self

from django.contrib.auth.base_user import BaseUserManager
from django.contrib.auth.models import AbstractUser
from django.db import connection, models
from django.db.models.functions import Lower, Now


class UserManager(BaseUserManager["User"]):
    """Makes users by e-mail address."""

    def create_user(self, email: str, password: str | None = None, **fields: Any) -> "User":
        """A saved user; without a password they can only sign in by code or another provider."""
        user = self.model(email=self.normalize_email(email), **fields)
        user.set_password(password)
        user.save(using=self._db)
        return user

    def create_superuser(self, email: str, password: str | None = None, **fields: Any) -> "User":
        """A saved user with every right in the admin."""
        return self.create_user(email, password, is_staff=True, is_superuser=True, **fields)

    def get_by_natural_key(self, username: str | None) -> "User":
        return self.get(email__iexact=username)


# About a thousand tokens, paid for with every message: enough to say how one wants to be answered.
INSTRUCTIONS_LENGTH = 4000


class User(AbstractUser):
    """A person, known by their e-mail address."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    username = None  # type: ignore[assignment]
    first_name = None  # type: ignore[assignment]
    last_name = None  # type: ignore[assignment]
    name = models.CharField(max_length=120, blank=True)
    email = models.EmailField("e-mail address", unique=True)
    instructions = models.TextField(
        blank=True,
        default="",
        db_default="",
        max_length=INSTRUCTIONS_LENGTH,
        help_text="What the model is told before each of this person's conversations.",
    )

    USERNAME_FIELD = "email"
    REQUIRED_FIELDS: ClassVar[list[str]] = []

    objects: ClassVar[UserManager] = UserManager()  # type: ignore[assignment]

    class Meta:
        constraints = [
            models.UniqueConstraint(
                Lower("email"),
                name="one_user_per_email",
                violation_error_message="This address has an account.",
            ),
        ]

    def __str__(self) -> str:
        return self.email

    def get_full_name(self) -> str:
        return self.name or self.email

    def get_short_name(self) -> str:
        return self.name or self.email.partition("@")[0]


class ApiKeyQuerySet(models.QuerySet["ApiKey"]):
    def active(self) -> Self:
        return self.filter(revoked_at=None, user__is_active=True)

    def owner_of(self, token: str) -> tuple[User | None, bool]:
        """The person whose active key `token` is, or nobody; and whether this use is news, to be noted with `note_use`.

        The key is found by its public prefix and compared in constant time by hash; the token itself is
        stored nowhere.
        """
        prefix, _, secret = token.partition(".")
        # Written out, because it is asked with every call of a program: the ORM takes ten times as long to write it.
        with connection.cursor() as cursor:
            cursor.execute(OWNER_OF_KEY, [prefix])
            found = cursor.fetchone()
        if found is None or not secret or not hmac.compare_digest(found[0], digest(token)):
            return None, False
        _, is_news, *person = found
        return User.from_db(self.db, [field.attname for field in User._meta.concrete_fields], person), is_news

    def note_use(self, prefixes: Collection[str]) -> None:
        """Note that the keys of these prefixes are being used, once a minute however often they are."""
        with connection.cursor() as cursor:
            cursor.execute(NOTE_USE, [list(prefixes)])


# Once a minute is precise enough for "last used", and keeps a busy key from being written at each call.
IS_NEWS = "(key.last_used_at IS NULL OR key.last_used_at < statement_timestamp() - interval '1 minute')"

OWNER_OF_KEY = f"""
SELECT key.hash, {IS_NEWS}, {", ".join(f"person.{field.column}" for field in User._meta.concrete_fields)}
FROM accounts_apikey key JOIN accounts_user person ON person.id = key.user_id
WHERE key.prefix = %s AND key.revoked_at IS NULL AND person.is_active
"""  # noqa: S608 (the names of our own columns)

# Another process that notes a key at this moment does the same; waiting for it, each could have what the other wants.
NOTE_USE = f"""
UPDATE accounts_apikey SET last_used_at = statement_timestamp() WHERE id IN (
    SELECT id FROM accounts_apikey key WHERE prefix = ANY(%s) AND {IS_NEWS} FOR NO KEY UPDATE SKIP LOCKED
)
"""  # noqa: S608 (as above)


def digest(token: str) -> str:
    """SHA-256 of a token: it has 256 random bits, so a slow password hash would add nothing."""
    return hashlib.sha256(token.encode()).hexdigest()


class ApiKey(models.Model):
    """Lets a program act as a person in the chat API; it carries no billing or account rights."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    user = models.ForeignKey(User, models.CASCADE, related_name="api_keys")
    name = models.CharField(max_length=80)
    prefix = models.CharField(max_length=16, unique=True, editable=False)
    hash = models.CharField(max_length=64, editable=False)
    created_at = models.DateTimeField(db_default=Now(), editable=False)
    last_used_at = models.DateTimeField(null=True, editable=False)
    revoked_at = models.DateTimeField(null=True, blank=True, editable=False)

    objects = ApiKeyQuerySet.as_manager()

    class Meta:
        verbose_name = "API key"
        ordering = ["-created_at"]

    def __str__(self) -> str:
        return f"{self.name} ({self.prefix}…)"

    @classmethod
    def issue(cls, *, user: User, name: str) -> tuple["ApiKey", str]:
        """A new key and its token, which is shown this once and cannot be had again."""
        prefix = f"chat_{secrets.token_hex(5)}"
        token = f"{prefix}.{secrets.token_urlsafe(32)}"
        return cls.objects.create(user=user, name=name, prefix=prefix, hash=digest(token)), token
