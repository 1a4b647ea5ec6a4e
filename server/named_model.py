"""Which model a request of any call but ModelInfer is about, read from its bytes by the rule of the call: what access is decided on."""

from google.protobuf.message_factory import GetMessageClass

from server.access import RULES
from server.messages import parse
from tidegate_protos.pool import POOL


def named_model(path: str, data: bytes) -> str | None:
    """The name of the model; "" if the call is about all of them, None if it is about none, or has no rule.

    Raises:
        InputMismatchError: if the request does not parse.
    """
    rule = RULES.get(path)
    if rule is None:
        return None
    if rule.model_field is None:
        return "" if rule.about_all else None
    method = POOL.FindMethodByName(path.strip("/").replace("/", "."))
    return str(getattr(parse(GetMessageClass(method.input_type), data), rule.model_field))
