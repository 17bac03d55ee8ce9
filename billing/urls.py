from django.urls import path

from billing import views, views_plans, views_statement

urlpatterns = [
    path("", views.billing, name="billing"),
    path("statement.csv", views_statement.statement_csv, name="billing_statement"),
    path("low-balance/", views_statement.low_balance, name="billing_low_balance"),
    path("checkout/", views.checkout, name="billing_checkout"),
    path("return/", views.checkout_return, name="billing_return"),
    path("portal/", views_plans.portal, name="billing_portal"),
    path("subscribe/", views_plans.subscribe, name="billing_subscribe"),
    path("subscription/", views_plans.subscription, name="billing_subscription"),
    path("subscription/change/", views_plans.change, name="billing_change"),
    path("subscription/end/", views_plans.end, name="billing_end"),
    path("subscription/invoice/", views_plans.unpaid_invoice, name="billing_unpaid_invoice"),
    path("auto-topup/", views_plans.auto_topup, name="billing_auto_topup"),
    path("orders/<uuid:order_id>/invoice/", views_plans.invoice, name="billing_invoice"),
    path("webhook/", views.webhook, name="billing_webhook"),
]
