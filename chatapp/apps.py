from django.apps import AppConfig
from django.contrib.admin import apps as admin_apps

# Makes ours the application that `shared_task` binds to, in every process that has Django.
from chatapp import celery  # noqa: F401


class ChatappConfig(AppConfig):
    name = "chatapp"

    def ready(self) -> None:
        from chatapp import checks  # noqa: F401


class OperatorAdminConfig(admin_apps.AdminConfig):
    """Django's admin with our site as its default one."""

    default = False
    default_site = "chatapp.admin_site.OperatorSite"
