"""What only HTTP can be asked, OpenAI's interface above all, and this service does not do: these errors are REST's own."""

from service.errors import InvalidRequest


class UnsupportedConversation(InvalidRequest):
    """The messages are not one user's single question: PaliGemma answers one picture and one prefix, and knows no turns."""


class UnsupportedParameter(InvalidRequest):
    """A parameter is well known and well formed, but nothing here does what it asks."""


class MisdirectedRequest(InvalidRequest):
    """The request names a host that is not this server."""
