"""Errors of REST's own: what OpenAI's interface can ask and this service does not do, and what only HTTP can do wrong."""

from service.errors import InvalidRequest, MalformedBody


class UnsupportedConversation(InvalidRequest):
    """The messages are not one user's single question: PaliGemma answers one picture and one prefix, and knows no turns."""


class UnsupportedParameter(InvalidRequest):
    """A parameter is well known and well formed, but nothing here does what it asks."""


class SlowRequest(MalformedBody):
    """The request came more slowly than is waited for."""
