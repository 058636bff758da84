"""The inventory's JSON Schema, from which editors complete and check."""

from __future__ import annotations

from typing import Any

from pydantic.json_schema import GenerateJsonSchema

from trscaler_gen.inventory.explain import NOT_A_KEY
from trscaler_gen.inventory.model import Inventory


class _Untitled(GenerateJsonSchema):
    """Leaves out titles that only repeat the key."""

    def field_title_should_be_set(self, schema: Any) -> bool:
        return False


def json_schema() -> dict[str, Any]:
    """Describe an inventory file (JSON Schema 2020-12); contradictions between keys are beyond it."""
    schema = Inventory.model_json_schema(schema_generator=_Untitled)
    del schema["properties"][NOT_A_KEY]
    schema["required"].remove(NOT_A_KEY)
    nodes = schema["properties"]["nodes"]
    [(pattern, node)] = nodes.pop("patternProperties").items()
    nodes["propertyNames"]["pattern"] = pattern
    nodes["additionalProperties"] = node
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": "urn:trscaler-gen:inventory",
        **schema,
        "title": "trscaler-gen inventory",
        "description": "One shared-address cluster: its addresses, how it keeps itself alive, and its nodes.",
    }
