"""Production's settings, for a clone whose static files nobody has collected: pages name them as they are."""

from chatapp.settings import *  # noqa: F403
from chatapp.settings import STORAGES

STORAGES["staticfiles"] = {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"}
