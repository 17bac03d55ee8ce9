"""All configuration, read once from the environment.

A missing or malformed setting ends the start with one line that says what to do: see `refuse`. README.md has
the table of settings.
"""

import os
import re
import sys
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, NoReturn
from urllib.parse import urlsplit

import environ
import structlog
from csp.constants import NONCE, NONE, SELF
from django.core.exceptions import ImproperlyConfigured
from django.templatetags.static import static
from django.urls import reverse_lazy

from chatapp import logs, tracebacks
from chatapp.postgres import Connection, refuse_who_waits

BASE_DIR = Path(__file__).resolve().parent.parent


# --- How settings are read -------------------------------------------------------------------------------


def refuse(sentence: str) -> NoReturn:
    """End the process with one line on stderr: a wrong setting is never a traceback."""
    sys.exit(f"chatapp: {sentence}")


def values_in(file: Path) -> dict[str, str]:
    """The settings written in an env file; blank ones do not count as set."""

    class Reader(environ.Env):
        ENVIRON: dict[str, str] = {}

    try:
        Reader.read_env(file)
    except UnicodeDecodeError:
        refuse(f"{file} is not text in UTF-8.")
    return {name: value.strip() for name, value in Reader.ENVIRON.items() if value.strip()}


# The environment wins over `.env`, and `.env` over what `make run` arranged for this clone.
FILES: dict[str, str] = {}
for _name in os.environ.get("CHATAPP_ENV_FILES", ".env,.local/run.env").split(","):
    if _name and (BASE_DIR / _name).is_file():
        FILES = {**values_in(BASE_DIR / _name), **FILES}


# What `make run` keeps, also while it is stopped.
_LOCAL = BASE_DIR / ".local"


def text(name: str, default: str | None = None) -> str:
    value = os.environ.get(name, "").strip() or FILES.get(name) or default
    if value is None:
        stopped = " `make run` sets it for commands here too, while it runs." if _LOCAL.is_dir() else ""
        refuse(f"{name} is not set. Put it in the environment or in .env (see .env.example).{stopped}")
    return value


def switch(name: str, default: bool) -> bool:
    value = text(name, str(default)).lower()
    if value not in {"true", "1", "yes", "on", "false", "0", "no", "off"}:
        refuse(f"{name} must be true or false, not {value!r}.")
    return value in {"true", "1", "yes", "on"}


# What `number` reads has nine digits at most.
MOST = 10**9 - 1


def number(name: str, default: str, *, least: Decimal | int = 0, places: int = 0) -> Decimal:
    value = text(name, default)
    if not re.fullmatch(rf"\d{{1,9}}(\.\d{{1,{places}}})?" if places else r"\d{1,9}", value):
        kind = f"a number with at most {places} decimal places" if places else "a whole number"
        refuse(f"{name} must be {kind} of at least {least}, not {value!r}.")
    if Decimal(value) < least:
        refuse(f"{name} must be at least {least}, not {value}.")
    return Decimal(value)


def choice(name: str, default: str, allowed: list[str]) -> str:
    value = text(name, default)
    if value not in allowed:
        refuse(f"{name} must be one of {', '.join(allowed)}, not {value!r}.")
    return value


def listed(name: str, default: str = "") -> list[str]:
    return [part.strip() for part in text(name, default).split(",") if part.strip()]


def url(name: str, default: str, schemes: set[str], why: str) -> str:
    value = text(name, default)
    try:
        parts = urlsplit(value)
        for host in parts.netloc.rpartition("@")[2].split(","):  # a PostgreSQL may have several
            _ = urlsplit(f"//{host}").port
    except ValueError:
        refuse(f"{name} is no URL. In a user name or password, write special characters as %XX.")
    if parts.scheme not in schemes:
        refuse(f"{name} must begin with {' or '.join(sorted(s + '://' for s in schemes))}: {why}")
    if parts.scheme in {"http", "https"} and not parts.hostname:
        refuse(f"{name} names no host: {why}")
    return value


DEBUG = switch("DEBUG", default=False)
SECRET_KEY = text("SECRET_KEY")
if not DEBUG and len(SECRET_KEY) < 50:
    refuse(
        "SECRET_KEY must have at least 50 characters: python -c 'import secrets; print(secrets.token_urlsafe(50))'"
    )

ALLOWED_HOSTS = listed("ALLOWED_HOSTS", "localhost,127.0.0.1,[::1]" if DEBUG else "")
if not ALLOWED_HOSTS:
    refuse("ALLOWED_HOSTS is empty: name the host names this site answers to, such as chat.example.org.")
for host in ALLOWED_HOSTS:
    if re.search(r"[/@\s]|[^\]]:\d+$", host):
        refuse(f"ALLOWED_HOSTS takes host names alone, such as chat.example.org, not {host!r}.")
CSRF_TRUSTED_ORIGINS = listed("CSRF_TRUSTED_ORIGINS")
for origin in CSRF_TRUSTED_ORIGINS:
    if not re.fullmatch(r"https?://[^/@\s]+", origin):
        refuse(
            f"CSRF_TRUSTED_ORIGINS takes a scheme and a host, such as https://chat.example.org, not {origin!r}."
        )

# Where the links in mails lead: what writes them knows of no request.
_first_host = ALLOWED_HOSTS[0].removeprefix(".").replace("*", "localhost")
SITE_URL = url(
    "SITE_URL",
    CSRF_TRUSTED_ORIGINS[0] if CSRF_TRUSTED_ORIGINS else f"{'http' if DEBUG else 'https'}://{_first_host}",
    {"http", "https"},
    "it is where people find this site, such as https://chat.example.org.",
).rstrip("/")

# --- The house -------------------------------------------------------------------------------------------

INSTALLED_APPS = [
    "chatapp.local",  # first: its `runserver` takes the place of Django's
    "unfold.apps.BasicAppConfig",
    "unfold.contrib.filters",
    "unfold.contrib.forms",
    "chatapp.apps.OperatorAdminConfig",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.humanize",
    "django.contrib.messages",
    "django.contrib.postgres",
    "django.contrib.sessions",
    "django.contrib.staticfiles",
    "servestatic",
    "channels",
    "csp",
    "allauth",
    "allauth.account",
    "allauth.mfa",
    "allauth.socialaccount",
    "allauth.socialaccount.providers.github",
    "allauth.socialaccount.providers.google",
    "accounts",
    "billing",
    "chatapp.conversations",
    "chatapp.streaming",
    "chatapp",
]

MIDDLEWARE = [
    "chatapp.logs.RequestLogMiddleware",
    "chatapp.middleware.Security",
    "chatapp.middleware.Static",
    "chatapp.middleware.ContentSecurityPolicy",
    "chatapp.middleware.Session",
    "chatapp.middleware.Common",
    "chatapp.middleware.Csrf",
    "chatapp.middleware.Authentication",
    "chatapp.middleware.Messages",
    "chatapp.middleware.XFrameOptions",
    "allauth.account.middleware.AccountMiddleware",
    "chatapp.middleware.DatabaseAway",
    "chatapp.middleware.ApiProblem",
]

# These look for Django's own names in MIDDLEWARE, where subclasses stand.
SILENCED_SYSTEM_CHECKS = ["security.W001", "security.W002", "security.W003"]

ROOT_URLCONF = "chatapp.urls"
ASGI_APPLICATION = "chatapp.asgi.application"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
LANGUAGE_CODE = "en"
TIME_ZONE = "UTC"
USE_TZ = True
USE_I18N = False

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
                "csp.context_processors.nonce",
                "chatapp.context.site",
            ],
        },
    }
]

# --- Data ------------------------------------------------------------------------------------------------

_database = url(
    "DATABASE_URL",
    "",
    {"postgres", "postgresql"},
    "only PostgreSQL can enforce the ledger's rules. `make run` starts a private one when it is not set.",
)
_parsed = environ.Env.db_url_config(_database)
if not _parsed["NAME"]:
    refuse("DATABASE_URL names no database: postgres://user:password@host:5432/NAME")
DATABASES: dict[str, dict[str, Any]] = {
    "default": {
        **_parsed,
        # The connections that one process may hold. A live turn holds none, so few serve many streams.
        "OPTIONS": {
            # A host that is gone is noticed within a minute, also while nobody asks it anything.
            "keepalives_idle": 30,
            "keepalives_interval": 10,
            "keepalives_count": 3,
            "tcp_user_timeout": 30_000,  # milliseconds; for what was sent and never received
            "connect_timeout": 4,
            **_parsed.get("OPTIONS", {}),  # such as sslmode, in the URL's query
            "server_side_binding": False,  # billing.sql sends several statements at once
            "pool": {
                "min_size": 1,
                "max_size": int(number("DATABASE_POOL", "10", least=4)),
                "timeout": 4,
                # Who waits is told of a failure at once, and whoever comes next has it tried again: left to itself the
                # pool waits twice as long after each failure, and after an outage as long again.
                "reconnect_timeout": 0,
                "reconnect_failed": refuse_who_waits,
                "connection_class": Connection,
            },
        },
        "CONN_HEALTH_CHECKS": True,
    }
}

REDIS_URL = url(
    "REDIS_URL",
    "",
    {"redis", "rediss"},
    "Valkey or Redis carries the jobs, the journal and the live updates.",
)
# A Redis that is away must cost a short, bounded wait and nothing else: every use of it can be done without.
CACHES = {
    "default": {
        "BACKEND": "chatapp.cache.ForgivingRedisCache",
        "LOCATION": REDIS_URL,
        "KEY_PREFIX": "chatapp",
        "OPTIONS": {"socket_connect_timeout": 1, "socket_timeout": 1},
    }
}
CHANNEL_LAYERS = {
    "default": {
        "BACKEND": "channels_redis.pubsub.RedisPubSubChannelLayer",
        "CONFIG": {
            "hosts": [{"address": REDIS_URL, "socket_timeout": 1, "socket_connect_timeout": 1}],
            "prefix": "chatapp",
        },
    }
}

CELERY_BROKER_URL = REDIS_URL
CELERY_TASK_IGNORE_RESULT = True
CELERY_TASK_ACKS_LATE = True
CELERY_TASK_REJECT_ON_WORKER_LOST = True
CELERY_WORKER_PREFETCH_MULTIPLIER = 1
CELERY_TASK_SERIALIZER = "json"
CELERY_TIMEZONE = "UTC"
CELERY_TASK_TIME_LIMIT = 300
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
# A task whose worker was killed is delivered again after this many seconds.
CELERY_BROKER_TRANSPORT_OPTIONS = {
    "visibility_timeout": 600,
    "socket_timeout": 5,
    "socket_connect_timeout": 2,
}
# Sending a task never waits on a broker that is away: what was not sent is found by a beat task.
CELERY_TASK_PUBLISH_RETRY = False

# --- People ----------------------------------------------------------------------------------------------

AUTH_USER_MODEL = "accounts.User"
AUTHENTICATION_BACKENDS = [
    "django.contrib.auth.backends.ModelBackend",
    "allauth.account.auth_backends.AuthenticationBackend",
]
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.UserAttributeSimilarityValidator"},
    {"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator", "OPTIONS": {"min_length": 10}},
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
]
LOGIN_URL = reverse_lazy("account_login")
LOGIN_REDIRECT_URL = reverse_lazy("chat")
LOGOUT_REDIRECT_URL = reverse_lazy("home")

ACCOUNT_ADAPTER = "accounts.adapter.AccountAdapter"
ACCOUNT_LOGIN_METHODS = {"email"}
ACCOUNT_SIGNUP_FIELDS = ["email*", "password1*"]
ACCOUNT_USER_MODEL_USERNAME_FIELD = None
ACCOUNT_EMAIL_VERIFICATION = choice(
    "EMAIL_VERIFICATION", "optional" if DEBUG else "mandatory", ["mandatory", "optional", "none"]
)
ACCOUNT_EMAIL_VERIFICATION_BY_CODE_ENABLED = ACCOUNT_EMAIL_VERIFICATION == "mandatory"
ACCOUNT_CHANGE_EMAIL = True
ACCOUNT_LOGIN_BY_CODE_ENABLED = True
ACCOUNT_CONFIRM_EMAIL_ON_GET = False
ACCOUNT_EMAIL_UNKNOWN_ACCOUNTS = False
# A changed password, second factor or address is told to the owner by mail: it may not have been them.
ACCOUNT_EMAIL_NOTIFICATIONS = True
ACCOUNT_LOGOUT_REDIRECT_URL = LOGOUT_REDIRECT_URL
ACCOUNT_SESSION_REMEMBER = True
ACCOUNT_EMAIL_SUBJECT_PREFIX = ""
ACCOUNT_DEFAULT_HTTP_PROTOCOL = "http" if DEBUG else "https"

MFA_ADAPTER = "accounts.adapter.MFAAdapter"
MFA_FORMS = {"add_webauthn": "accounts.forms.AddPasskeyForm"}
MFA_SUPPORTED_TYPES = ["totp", "webauthn", "recovery_codes"]
MFA_PASSKEY_LOGIN_ENABLED = True
MFA_WEBAUTHN_ALLOW_INSECURE_ORIGIN = DEBUG
MFA_TOTP_ISSUER = "Chatapp"
# Staff reach other people's money and data: a password alone does not open the admin in production.
STAFF_NEED_SECOND_FACTOR = not DEBUG

SOCIALACCOUNT_PROVIDERS: dict[str, dict[str, Any]] = {}
SIGN_IN_ORIGINS: list[str] = []
for provider, scope, origin in (
    ("google", ["email", "profile"], "https://accounts.google.com"),
    ("github", ["user:email"], "https://github.com"),
):
    client_id = text(f"{provider.upper()}_CLIENT_ID", "")
    if client_id:
        SOCIALACCOUNT_PROVIDERS[provider] = {
            "APPS": [
                {"client_id": client_id, "secret": text(f"{provider.upper()}_CLIENT_SECRET"), "key": ""}
            ],
            "SCOPE": scope,
        }
        SIGN_IN_ORIGINS.append(origin)
SOCIALACCOUNT_ONLY = False
SOCIALACCOUNT_EMAIL_AUTHENTICATION = False

DEFAULT_FROM_EMAIL = text("DEFAULT_FROM_EMAIL", "Chatapp <chatapp@localhost>" if DEBUG else None)
SERVER_EMAIL = DEFAULT_FROM_EMAIL
try:
    _email = environ.Env.email_url_config(text("EMAIL_URL", "consolemail://" if DEBUG else None))
except (ImproperlyConfigured, ValueError):
    _email = {}
if not _email or (_email["EMAIL_BACKEND"].endswith("smtp.EmailBackend") and not _email["EMAIL_HOST"]):
    refuse("EMAIL_URL is not understood. Example: smtp+tls://user:password@smtp.example.org:587")
vars().update(_email)
if _email["EMAIL_BACKEND"].endswith("console.EmailBackend"):
    EMAIL_BACKEND = "chatapp.console_mail.TextBackend"
# A mail server that hangs must not keep a worker, or somebody who signs up, waiting.
EMAIL_TIMEOUT = 10

# --- Chat and money --------------------------------------------------------------------------------------

DEMO_CLAUDE = DEBUG and switch("CHATAPP_DEMO_CLAUDE", default=False)
DEMO_STRIPE = DEBUG and switch("CHATAPP_DEMO_STRIPE", default=False)

ANTHROPIC_API_KEY = text("ANTHROPIC_API_KEY")
ANTHROPIC_BASE_URL = url(
    "ANTHROPIC_BASE_URL", "https://api.anthropic.com", {"http", "https"}, "it is where Claude is."
)

# Without a key, nobody takes over when Claude cannot begin.
OPENAI_API_KEY = text("OPENAI_API_KEY", "")
OPENAI_BASE_URL = url(
    "OPENAI_BASE_URL", "https://api.openai.com/v1", {"http", "https"}, "it is where OpenAI is."
)

# Who sums up long conversations, paid by the house. "off", or a model without a price or a key: they are only cut.
SUMMARY_MODEL = text("SUMMARY_MODEL", "claude-haiku-5-5")
# Who names conversations, one small request for each, paid by the house. "off": they are called by their first words.
TITLE_MODEL = text("TITLE_MODEL", "off")
for name, model in (("SUMMARY_MODEL", SUMMARY_MODEL), ("TITLE_MODEL", TITLE_MODEL)):
    if not re.fullmatch(r"[\w.:/-]{1,80}", model):
        refuse(f"{name} must be a model's name as the provider writes it, such as claude-haiku-5-5, or off.")

# Who tells billing, which knows of no chat, what its charges were for.
ANSWER_BOOK = "chatapp.conversations.answers.TurnBook"

# Without a key, buying credits is plainly off: the billing page says so.
STRIPE_SECRET_KEY = text("STRIPE_SECRET_KEY", "")
STRIPE_WEBHOOK_SECRET = text("STRIPE_WEBHOOK_SECRET", "")
STRIPE_API_BASE = url(
    "STRIPE_API_BASE", "https://api.stripe.com", {"http", "https"}, "it is where Stripe is."
)
if STRIPE_SECRET_KEY and not STRIPE_WEBHOOK_SECRET:
    refuse(
        "STRIPE_WEBHOOK_SECRET is empty: without it anyone could forge a payment. Copy it from Stripe's dashboard."
    )

# US dollars that a person can spend at once on an amount of their choice; Stripe takes no less than half a dollar.
TOPUP_MINIMUM = number("TOPUP_MINIMUM", "5", least=Decimal("0.5"), places=2)
TOPUP_MAXIMUM = number("TOPUP_MAXIMUM", "500", least=TOPUP_MINIMUM, places=2)

SIGNUP_CREDITS = number("SIGNUP_CREDITS", "100", places=6)
TURN_RECONNECT_SECONDS = float(number("TURN_RECONNECT_SECONDS", "10", places=3))
TURN_CONNECT_SECONDS = float(number("TURN_CONNECT_SECONDS", "5", least=Decimal("0.1"), places=3))
# Silence of the provider in mid-answer that counts as a broken stream; Claude pings well within it.
TURN_STALL_SECONDS = float(number("TURN_STALL_SECONDS", "60", least=1, places=3))
# How long a web process that is told to end lets its answers go on; the rest of them are interrupted then.
TURN_DRAIN_SECONDS = float(number("TURN_DRAIN_SECONDS", "30", places=3))
# Each has a connection to the provider of its own; one more than the pool has would wait in silence.
TURNS_PER_PROCESS = int(number("TURNS_PER_PROCESS", "1000", least=1))
TURNS_PER_MINUTE = int(number("TURNS_PER_MINUTE", "10", least=1))
TURNS_AT_ONCE = int(number("TURNS_AT_ONCE", "3", least=1))
# What is left out follows from what one person may: a key no less, an address as much as many people behind one router.
TURNS_PER_MINUTE_PER_KEY = int(number("TURNS_PER_MINUTE_PER_KEY", str(TURNS_PER_MINUTE), least=1))
TURNS_PER_MINUTE_PER_ADDRESS = int(
    number("TURNS_PER_MINUTE_PER_ADDRESS", str(min(300 * TURNS_PER_MINUTE, MOST)), least=1)
)
API_REQUESTS_PER_MINUTE = int(
    number("API_REQUESTS_PER_MINUTE", str(min(600 * TURNS_PER_MINUTE, MOST)), least=1)
)
# What comes of a message that looks like orders against our own: see chatapp/streaming/guard.py.
PROMPT_GUARD = choice("PROMPT_GUARD", "flag", ["off", "flag", "refuse"])

# --- The browser -----------------------------------------------------------------------------------------

STATIC_URL = "/static/"
STATIC_ROOT = BASE_DIR / "staticfiles"
_npm = BASE_DIR / "node_modules"
# Browser modules come from npm and are served as published; the import map in base.html names them.
STATICFILES_DIRS = [
    BASE_DIR / "static",
    ("vendor/highlight", _npm / "@highlightjs" / "cdn-assets" / "es"),
    ("vendor/katex", _npm / "katex" / "dist"),
    ("vendor/marked", _npm / "marked" / "lib"),
    ("vendor/purify", _npm / "dompurify" / "dist"),
]
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {
        "BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"
        if DEBUG
        else "servestatic.storage.CompressedManifestStaticFilesStorage"
    },
}
SERVESTATIC_USE_FINDERS = DEBUG
SERVESTATIC_AUTOREFRESH = DEBUG

CONTENT_SECURITY_POLICY = {
    "DIRECTIVES": {
        "default-src": [NONE],
        "script-src": [SELF, NONCE],
        "style-src": [SELF, NONCE],
        "img-src": [SELF, "data:"],
        "font-src": [SELF],
        "connect-src": [SELF],
        # A form's redirect counts: buying credits ends on Stripe's page, or on a stand-in's.
        "form-action": [
            SELF,
            *SIGN_IN_ORIGINS,
            "https://checkout.stripe.com" if STRIPE_API_BASE == "https://api.stripe.com" else STRIPE_API_BASE,
        ],
        "manifest-src": [SELF],
        "frame-ancestors": [NONE],
        "base-uri": [NONE],
    }
}

# Each adds to X-Forwarded-For whom it talks to: limits count the address that the outermost of them saw.
TRUSTED_PROXIES = int(number("TRUSTED_PROXIES", "0" if DEBUG else "1"))

SESSION_COOKIE_HTTPONLY = True
SESSION_COOKIE_AGE = int(timedelta(days=30).total_seconds())
SESSION_COOKIE_SAMESITE = "Lax"
CSRF_COOKIE_SAMESITE = "Lax"
CSRF_FAILURE_VIEW = "chatapp.pages.csrf_failure"
X_FRAME_OPTIONS = "DENY"
SECURE_REFERRER_POLICY = "same-origin"
SECURE_CONTENT_TYPE_NOSNIFF = True
# The longest message has room in it, in any script. The Caddyfile says the same.
DATA_UPLOAD_MAX_MEMORY_SIZE = 2_000_000
if not DEBUG:
    SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = True
    SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
    SECURE_SSL_REDIRECT = True
    SECURE_REDIRECT_EXEMPT = [r"^healthz$", r"^readyz$"]
    SECURE_HSTS_SECONDS = int(timedelta(days=365).total_seconds())
    SECURE_HSTS_INCLUDE_SUBDOMAINS = True

# Colours are in css/admin.css, beside the tokens they come from: Unfold would write them into an inline style.
UNFOLD: dict[str, Any] = {
    "SITE_TITLE": "Chatapp",
    "SITE_HEADER": "Chatapp",
    "SITE_SUBHEADER": "Operator",
    "SITE_URL": "/",
    "SITE_ICON": lambda request: static("img/favicon.svg"),
    "SITE_FAVICONS": [
        {"rel": "icon", "type": "image/svg+xml", "href": lambda request: static("img/favicon.svg")}
    ],
    "STYLES": [lambda request: static("css/tokens.css"), lambda request: static("css/admin.css")],
    "ACCOUNT": {"navigation": "chatapp.admin_site.account_links"},
    "SIDEBAR": {"navigation": "chatapp.admin_site.sidebar"},
    "DASHBOARD_CALLBACK": "chatapp.dashboard.fill",
}

# --- Logs ------------------------------------------------------------------------------------------------

LOG_LEVEL = choice("LOG_LEVEL", "INFO", ["DEBUG", "INFO", "WARNING", "ERROR"])
_exceptions = structlog.processors.ExceptionRenderer(tracebacks.render)
_shared_processors: list[Any] = [
    structlog.contextvars.merge_contextvars,
    structlog.stdlib.add_log_level,
    structlog.stdlib.add_logger_name,
    structlog.processors.TimeStamper(fmt="iso", utc=True),
]
structlog.configure(
    processors=[
        *_shared_processors,
        logs.plain_choices,
        _exceptions,
        structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
    ],
    logger_factory=structlog.stdlib.LoggerFactory(),
    cache_logger_on_first_use=True,
)
LOGGING: dict[str, Any] = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {
        "structured": {
            "()": structlog.stdlib.ProcessorFormatter,
            "processors": [
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                _exceptions,
                structlog.processors.KeyValueRenderer(key_order=["timestamp", "level", "logger", "event"])
                if DEBUG
                else structlog.processors.JSONRenderer(),
            ],
            "foreign_pre_chain": _shared_processors,
        }
    },
    "filters": {
        "no_secret_paths": {"()": logs.NoSecretPaths},
        "valkey_away": {"()": logs.ValkeyAwayInOneLine},
        "database_away": {"()": logs.DatabaseAwayInOneLine},
        "no_prompts": {"()": logs.NoPrompts},
        "without_words": {"()": tracebacks.WithoutWords},
    },
    "handlers": {
        "stderr": {
            "class": "logging.StreamHandler",
            "formatter": "structured",
            "filters": ["no_prompts", "without_words"],
        }
    },
    "root": {"handlers": ["stderr"], "level": LOG_LEVEL},
    "loggers": {
        "django": {"handlers": [], "level": "INFO", "propagate": True},
        "django.server": {"handlers": [], "level": "WARNING", "propagate": True},
        "django.request": {"level": "ERROR", "filters": ["no_secret_paths"]},
        "django.channels.server": {"level": "WARNING"},
        "channels_redis.pubsub": {"filters": ["valkey_away"]},
        "daphne": {"level": "WARNING"},
        "daphne.server": {"filters": ["database_away"]},
        **{name: {"level": "WARNING"} for name in logs.CARRY_PROMPTS},
        "celery": {"level": "WARNING"},
        "celery.app.trace": {"level": "WARNING"},
    },
}
