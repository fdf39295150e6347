"""What schemathesis is told that no description can say; see `schemathesis.toml`."""

import uuid
from typing import Any

import schemathesis

KEY = "Idempotency-Key"


@schemathesis.hook
def before_call(_: schemathesis.HookContext, case: schemathesis.Case[Any], __: Any) -> None:
    """Have each body come with a key of its own: to use one again for something else is refused, as it should be."""
    if case.meta is not None and case.meta.generation.mode.is_positive and KEY in (case.headers or {}):
        case.headers[KEY] = f"{case.headers[KEY][:200]}-{uuid.uuid4()}"
