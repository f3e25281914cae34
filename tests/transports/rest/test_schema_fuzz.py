"""schemathesis makes requests of the OpenAPI document, good and bad ones, and checks that the answers are those the document promises."""

from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis.specs.openapi.checks import negative_data_rejection

from tests.schema_hooks import filter_case
from tests.transports.rest.service_fake import Rest

# Not what ``schemathesis.toml`` says: that is for a real server, which cannot take every picture.
schema = schemathesis.openapi.from_asgi("/openapi.json", Rest().application, config=schemathesis.Config.from_dict({}))


@pytest.mark.filterwarnings("ignore")
@schema.parametrize()
@settings(max_examples=20, deadline=None, suppress_health_check=list(HealthCheck))
def test_answers_are_what_the_document_promises(case: schemathesis.Case[Any]) -> None:
    if not filter_case(schemathesis.HookContext(), case):
        return
    # Text in a form breaks few schemas ("0" is false, "{}" is a name), and languages are checked by the tasks, which are faked here.
    case.call_and_validate(excluded_checks=[negative_data_rejection])
