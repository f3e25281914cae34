"""What OpenAI's interface can ask and this service does not do. No other transport can be asked so: these errors are REST's own."""

from service.errors import InvalidRequest


class UnsupportedConversation(InvalidRequest):
    """The messages are not one user's single question: PaliGemma answers one picture and one prefix, and knows no turns."""


class UnsupportedParameter(InvalidRequest):
    """A parameter is well known and well formed, but nothing here does what it asks."""
