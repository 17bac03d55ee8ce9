"""Conversations and turns as the operator sees them: what was used and what went wrong, not what was said."""

from typing import Any

from django.contrib import admin
from django.core.paginator import Paginator
from django.db.models import Count, F, Model, OuterRef, QuerySet, Subquery
from django.db.models.functions import Coalesce
from django.http import Http404, HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from unfold.contrib.filters.admin import ChoicesCheckboxFilter, RelatedCheckboxFilter
from unfold.decorators import action, display
from unfold.utils import display_for_label

from accounts.admin import keep_in_log
from billing.admin.reading import (
    NOTHING,
    DaysFilter,
    ReadOnlyAdmin,
    credits_column,
    link,
    number_column,
    over,
    person_column,
    time_column,
)
from billing.templatetags.amounts import amount
from chatapp.conversations.models import Conversation, Message, Turn
from chatapp.failures import FAILURES

MESSAGES_ON_A_PAGE = 50

TOKENS = ["in_tokens", "out_tokens", "read_tokens", "write_5m_tokens", "write_1h_tokens"]
CREDITS = ["held_credits", "charged_credits", "cost_credits", "margin_credits", "overrun_credits"]
TIMES = ["asked", "ended", "first_ms", "whole_ms", "last_sign_of_life"]

STATES = {"running": "info", "completed": "success", "failed": "danger", "interrupted": "danger"}


@admin.register(Conversation)
class ConversationAdmin(ReadOnlyAdmin):
    """Conversations without what was said in them.

    Who may read messages asks for them on a page of their own, and that they did is kept in the admin's log.
    """

    list_display = ["title_shown", "person", "message_count", "running", "model", "changed", "begun"]
    list_filter = [("updated_at", DaysFilter), "archived"]
    list_select_related = ["user", "model"]
    search_fields = ["title", "user__email"]
    search_help_text = "Title, e-mail or id"
    id_fields = ["pk"]
    ordering = ["-updated_at"]
    fields = [
        *("id", "title", "person", "model", "message_count", "running", "pinned", "archived"),
        *("begun", "changed"),
    ]
    readonly_fields = ["person", "message_count", "running", "begun", "changed"]
    actions_detail = ["show_messages"]

    person = person_column
    begun = time_column("created_at", "begun")
    changed = time_column("updated_at", "changed")

    def get_queryset(self, request: HttpRequest) -> QuerySet[Conversation]:
        said = Message.objects.filter(conversation=OuterRef("pk")).order_by().values("conversation")
        counted = Coalesce(Subquery(said.annotate(count=Count("pk")).values("count")), 0)
        running = Turn.objects.running().filter(conversation=OuterRef("pk"))
        return (
            super()
            .get_queryset(request)
            .annotate(messages_counted=counted, running_turn=Subquery(running.values("pk")[:1]))
        )

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return request.user.is_active and request.user.is_superuser

    def has_read_messages_permission(self, request: HttpRequest, object_id: Any = None) -> bool:
        return request.user.has_perm("conversations.read_messages")

    @display(description="title", ordering="title")
    def title_shown(self, conversation: Conversation) -> str:
        return str(conversation)

    @display(description="messages", ordering="messages_counted")
    def message_count(self, conversation: Conversation) -> int:
        return conversation.messages_counted  # type: ignore[attr-defined]

    @display(description="running", empty_value=NOTHING)
    def running(self, conversation: Conversation) -> SafeString | None:
        turn = conversation.running_turn  # type: ignore[attr-defined]
        return link("conversations_turn_change", turn, "an answer") if turn else None

    @action(
        description="Show messages", permissions=["read_messages"], url_path="messages", icon="visibility"
    )
    def show_messages(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """What was said, after a click that is kept in the log; each page is a click and an entry."""
        conversation = self.get_object(request, object_id)
        if conversation is None:
            raise Http404
        context = {**self.admin_site.each_context(request), "opts": self.opts, "original": conversation}
        if request.method != "POST":
            context |= {
                "title": "Read these messages?",
                "sentence": f"They are private messages of {conversation.user}. "
                "That you read them is recorded under your name.",
                "button": "Show the messages",
            }
            return TemplateResponse(request, "admin/ask_once.html", context)
        said = Message.objects.filter(conversation=conversation).order_by("created_at", "pk")
        page = Paginator(said, MESSAGES_ON_A_PAGE).get_page(request.POST.get("page"))
        keep_in_log(
            request,
            conversation,
            f"Read the messages {page.start_index()} to {page.end_index()} of {page.paginator.count}.",
        )
        context |= {"title": "Messages", "page": page}
        return TemplateResponse(request, "admin/conversations/messages.html", context)


class ErrorFilter(admin.SimpleListFilter):
    """By the code of what went wrong; the codes are known, so no table is searched for them."""

    title = "error"
    parameter_name = "error_code"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(code, code.replace("_", " ")) for code in FAILURES]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Turn]) -> QuerySet[Turn]:
        return queryset.filter(error_code=self.value()) if self.value() else queryset


@admin.register(Turn)
class TurnAdmin(ReadOnlyAdmin):
    """One message and its one answer: tokens, money, time and faults."""

    list_display = [
        *("asked", "person", "model", "outcome", "prompt_tokens", "out_tokens"),
        *("charged_and_cost_credits", "margin_and_overrun_credits", "whole_and_first_ms"),
    ]
    list_filter = [
        ("created_at", DaysFilter),
        ("state", ChoicesCheckboxFilter),
        ("model", RelatedCheckboxFilter),
        ErrorFilter,
    ]
    list_select_related = ["user", "model"]
    search_fields = ["user__email"]
    search_help_text = "E-mail, or id of a turn or conversation"
    id_fields = ["pk", "conversation"]
    ordering = ["-created_at"]
    fieldsets = [
        (None, {"fields": ["id", "person", "conversation_link", "model", "price_link", "state_label"]}),
        ("Tokens", {"fields": [*TOKENS, "estimated", "most_tokens", "limited_by_balance"]}),
        ("Credits", {"fields": [*CREDITS, "hold_link"]}),
        ("Time", {"fields": [*TIMES, "stop_requested"]}),
        (
            "Provider",
            {"fields": ["provider", "provider_request", "stop_reason", "error_code", "error_message"]},
        ),
    ]
    readonly_fields = [
        *("person", "conversation_link", "price_link", "state_label", "hold_link", "most_tokens"),
        *(*TOKENS, *CREDITS, *TIMES),
    ]

    person = person_column
    held_credits = credits_column("held", "held")
    charged_credits = credits_column("charged", "charged")
    cost_credits = credits_column("cost", "cost")
    overrun_credits = credits_column("overrun", "overrun")
    in_tokens = number_column("input_tokens", "input, not cached")
    out_tokens = number_column("output_tokens", "output")
    read_tokens = number_column("cache_read_tokens", "cache read")
    write_5m_tokens = number_column("cache_write_5m_tokens", "cache write, 5 minutes")
    write_1h_tokens = number_column("cache_write_1h_tokens", "cache write, 1 hour")
    most_tokens = number_column("max_tokens", "at most")
    first_ms = number_column("first_token_ms", "first token, ms")
    asked = time_column("created_at", "asked")
    ended = time_column("ended_at", "ended")
    last_sign_of_life = time_column("heartbeat_at", "last sign of life")

    @display(description="state", ordering="state", label=STATES)
    def state_label(self, turn: Turn) -> str:
        return turn.state

    @display(description="state", ordering="state")
    def outcome(self, turn: Turn) -> SafeString:
        """How it stands, and what went wrong."""
        return over(display_for_label(turn.state, NOTHING, STATES), turn.error_code.replace("_", " "))

    @display(
        description="input",
        ordering=F("input_tokens")
        + F("cache_read_tokens")
        + F("cache_write_5m_tokens")
        + F("cache_write_1h_tokens"),
    )
    def prompt_tokens(self, turn: Turn) -> SafeString:
        """All that was read, and how much of it from the cache, at a tenth of the price."""
        cached = f"{turn.cache_read_tokens:,} cached" if turn.cache_read_tokens else ""
        return over(f"{turn.usage.prompt_tokens:,}", cached)

    @display(description="charged", ordering="charged")
    def charged_and_cost_credits(self, turn: Turn) -> SafeString:
        return over(amount(turn.charged), format_html("cost {}", amount(turn.cost)))

    @display(description="margin", ordering=F("charged") - F("cost"))
    def margin_credits(self, turn: Turn) -> SafeString:
        return amount(turn.charged - turn.cost)

    @display(description="margin", ordering=F("charged") - F("cost"))
    def margin_and_overrun_credits(self, turn: Turn) -> SafeString:
        """What is left of the charge, and what of the answer was above its hold."""
        overrun = format_html("overrun {}", amount(turn.overrun)) if turn.overrun else ""
        return over(self.margin_credits(turn), overrun)

    @display(description="duration, ms", ordering=F("ended_at") - F("created_at"), empty_value=NOTHING)
    def whole_ms(self, turn: Turn) -> str | None:
        return None if turn.duration_ms is None else f"{turn.duration_ms:,}"

    @display(description="ms", ordering=F("ended_at") - F("created_at"))
    def whole_and_first_ms(self, turn: Turn) -> SafeString:
        """How long it took, and how long until its first token."""
        first = "" if turn.first_token_ms is None else f"first {turn.first_token_ms:,}"
        return over(self.whole_ms(turn) or NOTHING, first)

    @display(description="conversation", empty_value="deleted")
    def conversation_link(self, turn: Turn) -> SafeString | None:
        if turn.conversation_id is None:
            return None
        return link("conversations_conversation_change", turn.conversation_id, turn.conversation_id)

    @display(description="price")
    def price_link(self, turn: Turn) -> SafeString:
        return link("billing_price_change", turn.price_id, turn.price)

    @display(description="hold")
    def hold_link(self, turn: Turn) -> SafeString:
        return link("billing_hold_change", turn.pk, "of this turn")
