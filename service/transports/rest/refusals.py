"""Errors of REST's own: what only HTTP can be asked, OpenAI's interface above all, and is not done here; what only HTTP can do wrong."""

from service.errors import InvalidRequest, MalformedBody


class UnsupportedConversation(InvalidRequest):
    """The messages are not one user's single question: PaliGemma answers one picture and one prefix, and knows no turns."""


class UnsupportedParameter(InvalidRequest):
    """A parameter is well known and well formed, but nothing here does what it asks."""


class SlowRequest(MalformedBody):
    """The request came more slowly than is waited for."""


class MisdirectedRequest(InvalidRequest):
    """The request names a host that is not this server."""
