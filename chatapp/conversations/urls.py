from django.urls import path

from chatapp.conversations import views

urlpatterns = [
    path("", views.chat, name="chat"),
    path("<uuid:conversation_id>/", views.chat, name="conversation"),
]
