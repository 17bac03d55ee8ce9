"""Routes, and nothing else."""

from django.contrib import admin
from django.urls import include, path

from chatapp import export, leaving, pages
from chatapp.api import api

urlpatterns = [
    path("", pages.home, name="home"),
    path("chat/", include("chatapp.conversations.urls")),
    path("billing/", include("billing.urls")),
    path("settings/export/", export.export, name="export"),
    path("settings/delete/", leaving.delete_account, name="delete_account"),
    path("settings/", include("accounts.urls")),
    path("accounts/", include("allauth.urls")),
    path("admin/", admin.site.urls),
    path("api/v1/", api.urls),
    path("favicon.ico", pages.favicon, name="favicon"),
    path("healthz", pages.healthz, name="healthz"),
    path("readyz", pages.readyz, name="readyz"),
]
