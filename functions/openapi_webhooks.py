"""The part of the OpenAPI document about our events: a webhook for each type, with the schemas of its body.

Clients that are generated from the document leave webhooks out. Servers can be generated from them.
"""

from pydantic.json_schema import models_json_schema

from shared.relay.event_models import EVENT_MODELS, EventSchema

type Json = dict[str, object]
EVENT_SECURITY_SCHEME: Json = {
    "type": "http",
    "scheme": "bearer",
    "bearerFormat": "JWT",
    "description": "If the target has an `audience`: an Entra token for this audience, which Call Keeper requests as "
    "the bot of the call, for the tenant of the call.",
}
_HEADERS = (  # name, type, required, meaning: Standard Webhooks
    ("webhook-id", "string", True, "The id of the event. All attempts have the same."),
    ("webhook-timestamp", "integer", True, "The time of the attempt, in seconds since 1970."),
    (
        "webhook-signature",
        "string",
        False,
        "If the target has a secret: `v1,` and the HMAC-SHA256 of id, timestamp and body in base64; maybe several.",
    ),
)
_RETRY_AFTER: Json = {
    "Retry-After": {
        "description": "How many seconds to wait. It holds for all deliveries to this address.",
        "schema": {"type": "integer", "minimum": 0},
    }
}
_RESPONSES: Json = {  # one by one: generators do not understand 2XX and 5XX
    "202": {"description": "The event is delivered. Any other 2xx means the same."},
    "410": {"description": "The target is switched off, and gets nothing more until an operator enables it."},
    "429": {"description": "The event comes again, after the time that Retry-After names.", "headers": _RETRY_AFTER},
    "503": {
        "description": "The event comes again, after the time that Retry-After names. Without it, after a wait that "
        "grows from seconds to 15 minutes, for 24 hours.",
        "headers": _RETRY_AFTER,
    },
}


def event_components(ref_template: str) -> Json:
    """Return the schemas of all events by their names. `ref_template` is the place of the one that `{model}` names."""
    _, definitions = models_json_schema(
        [(model, "serialization") for model in EVENT_MODELS.values()],
        ref_template=ref_template,
        schema_generator=EventSchema,
    )
    schemas: Json = definitions["$defs"]
    return schemas


def webhooks(ref_template: str) -> Json:
    """Return a webhook for each type of event. `ref_template` is as in `event_components`."""
    return {name: {"post": _operation(name, ref_template)} for name in EVENT_MODELS}


def _operation(event_type: str, ref_template: str) -> Json:
    model = EVENT_MODELS[event_type]
    return {
        "operationId": f"receive_{event_type.replace('.', '_')}",
        "summary": event_type,
        "description": model.__doc__,
        "parameters": [_header(*header) for header in _HEADERS],
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": {"$ref": ref_template.format(model=model.__name__)}}},
        },
        "responses": _RESPONSES,
        "security": [{"event": []}, {}],
    }


def _header(name: str, kind: str, required: bool, meaning: str) -> Json:
    return {"name": name, "in": "header", "required": required, "description": meaning, "schema": {"type": kind}}
