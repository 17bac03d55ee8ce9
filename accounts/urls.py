from django.urls import path

from accounts import views

urlpatterns = [
    path("", views.profile, name="settings"),
    path("keys/", views.api_keys, name="api_keys"),
    path("keys/<uuid:key>/revoke/", views.revoke_api_key, name="revoke_api_key"),
]
