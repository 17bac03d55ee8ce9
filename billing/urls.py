from django.urls import path

from billing import views

urlpatterns = [
    path("", views.billing, name="billing"),
    path("statement.csv", views.statement_csv, name="billing_statement"),
    path("checkout/", views.checkout, name="billing_checkout"),
    path("return/", views.checkout_return, name="billing_return"),
    path("webhook/", views.webhook, name="billing_webhook"),
]
