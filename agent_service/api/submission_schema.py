"""The JSON Schema of a submission, for the OpenAPI document; the domain checks more than a schema can say."""

from agent_service.domain.callback import LONGEST_CALLBACK_URL
from agent_service.domain.json_value import JsonObject
from agent_service.domain.request import DEFAULT_QUEUE, MAX_STEPS, STEP_NAME
from agent_service.domain.submission import LOWEST_PRIORITY, QUEUE_NAME

_INPUT: JsonObject = {
    "description": "what the service works on: any JSON value; text in it may hold {{ path.to.value }}"
}
_SERVICE: JsonObject = {
    "type": "string",
    "pattern": f"^{STEP_NAME.pattern}$",
    "description": "the name of a service that this deployment has",
}
_QUEUE: JsonObject = {"type": "string", "pattern": f"^{QUEUE_NAME.pattern}$", "default": DEFAULT_QUEUE}
_NAME: JsonObject = {"type": "string", "pattern": f"^{STEP_NAME.pattern}$"}
_AFTER: JsonObject = {"type": "array", "items": _NAME, "description": "the steps that it waits for"}

_CALLBACK: JsonObject = {
    "description": "who is told when the request has ended; refused unless the deployment allows its host",
    "type": "object",
    "required": ["url"],
    "additionalProperties": False,
    "properties": {"url": {"type": "string", "format": "uri", "maxLength": LONGEST_CALLBACK_URL}},
}

_COMMON: JsonObject = {
    "variables": {"type": "object", "description": "what templates find under vars"},
    "metadata": {"type": "object", "description": "handed to every base service and shown again"},
    "priority": {"type": "integer", "minimum": 0, "maximum": LOWEST_PRIORITY, "default": 0},
    "deadline_seconds": {"type": "number", "exclusiveMinimum": 0},
    "callback": _CALLBACK,
}

_STEP: JsonObject = {
    "type": "object",
    "required": ["name", "service", "input"],
    "additionalProperties": False,
    "properties": {
        "name": _NAME,
        "service": _SERVICE,
        "input": _INPUT,
        "after": _AFTER,
        "queue": _QUEUE,
    },
}

SUBMISSION_SCHEMA: JsonObject = {
    "oneOf": [
        {
            "title": "Steps",
            "type": "object",
            "required": ["steps"],
            "additionalProperties": False,
            "properties": {
                "steps": {"type": "array", "items": _STEP, "minItems": 1, "maxItems": MAX_STEPS},
                **_COMMON,
            },
        },
        {
            "title": "OneStep",
            "description": "one step, named like its service",
            "type": "object",
            "required": ["service", "input"],
            "additionalProperties": False,
            "properties": {"service": _SERVICE, "input": _INPUT, "queue": _QUEUE, **_COMMON},
        },
    ]
}

#: Submissions in one batch, at most.
LARGEST_BATCH = 1_000

BATCH_SCHEMA: JsonObject = {
    "type": "object",
    "required": ["requests"],
    "additionalProperties": False,
    "properties": {
        "requests": {
            "type": "array",
            "items": {"$ref": "#/components/schemas/Submission"},
            "minItems": 1,
            "maxItems": LARGEST_BATCH,
        },
    },
}

#: Of each submission, in the same order: the id of its request, or why there is none.
BATCH_ANSWER_SCHEMA: JsonObject = {
    "type": "object",
    "required": ["results"],
    "properties": {
        "results": {
            "type": "array",
            "items": {
                "oneOf": [
                    {
                        "title": "Taken",
                        "type": "object",
                        "required": ["id"],
                        "additionalProperties": False,
                        "properties": {"id": {"type": "string"}},
                    },
                    {
                        "title": "Refused",
                        "type": "object",
                        "required": ["problem"],
                        "additionalProperties": False,
                        "properties": {"problem": {"$ref": "#/components/schemas/ProblemBody"}},
                    },
                ]
            },
        }
    },
}

SUBMISSION_EXAMPLE: JsonObject = {
    "steps": [
        {
            "name": "draft",
            "service": "generation",
            "input": {"template": "Summarise for {{ vars.reader }}: {{ vars.text }}"},
        },
        {
            "name": "check",
            "service": "analysis",
            "input": {"task": "text_statistics", "text": "{{ steps.draft.output.text }}"},
            "after": ["draft"],
        },
        {
            "name": "notify",
            "service": "communication",
            "input": {"channel": "email", "to": "a@example.org", "body": "{{ steps.draft.output.text }}"},
            "after": ["check"],
        },
    ],
    "variables": {"reader": "a child", "text": "The sea rises and falls twice a day."},
    "metadata": {},
    "priority": 0,
    "deadline_seconds": 600,
}

BATCH_EXAMPLE: JsonObject = {
    "requests": [
        {
            "service": "generation",
            "input": {"template": "Greet {{ vars.name }}."},
            "variables": {"name": name},
        }
        for name in ("Ada", "Grace")
    ]
}
