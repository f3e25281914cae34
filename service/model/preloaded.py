"""What is imported once, before worker processes are forked."""

from service.observability import logs

logs.quiet_imports()

import service.model.paligemma  # noqa: E402, F401
