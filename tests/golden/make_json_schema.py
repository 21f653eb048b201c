#!/usr/bin/env python3
"""Writes tests/golden/data/json_schema_suite.json out of a checkout of JSON-Schema-Test-Suite.

    python3 tests/golden/make_json_schema.py /path/to/JSON-Schema-Test-Suite

The cases of draft 2020-12 for the keywords that are supported, and of some formats. Instances are
reordered as our grammars write them: properties as the schema lists them, the others behind.
"""

import json
import pathlib
import sys

FILES = """additionalProperties allOf anyOf boolean_schema const default defs enum exclusiveMaximum exclusiveMinimum
infinite-loop-detection items maxItems maxLength maximum minItems minLength minimum oneOf pattern prefixItems properties
ref required type optional/format/date optional/format/time optional/format/date-time optional/format/uuid
optional/format/ipv4 optional/format/email""".split()
OUT = pathlib.Path(__file__).parent / "data" / "json_schema_suite.json"


def ordered(data, schema, root):
    """`data` with properties in the order of `schema`, as far as it is a plain one."""
    if isinstance(schema, dict) and schema.get("$ref", "").startswith("#/"):
        target = root
        for part in schema["$ref"][2:].split("/"):
            part = part.replace("~1", "/").replace("~0", "~").replace("%25", "%").replace("%22", '"')
            if not isinstance(target, (dict, list)):
                return data
            target = target[int(part)] if isinstance(target, list) else target.get(part)
        return ordered(data, target, root) if target is not schema else data
    if not isinstance(schema, dict):
        return data
    if isinstance(data, dict):
        known = dict(schema.get("properties", {}))
        for part in schema.get("allOf", []):
            part = part if isinstance(part, dict) else {}
            known.update(part.get("properties", {}))
        for name in schema.get("required", []):
            known.setdefault(name, {})
        names = [n for n in known if n in data] + [n for n in data if n not in known]
        extra = schema.get("additionalProperties", {})
        return {n: ordered(data[n], known.get(n, extra), root) for n in names}
    if isinstance(data, list):
        prefix = schema.get("prefixItems", [])
        return [ordered(d, prefix[i] if i < len(prefix) else schema.get("items", {}), root)
                for i, d in enumerate(data)]
    return data


def main():
    suite = pathlib.Path(sys.argv[1]) / "tests" / "draft2020-12"
    groups = []
    for name in FILES:
        for group in json.loads((suite / f"{name}.json").read_text()):
            schema = group["schema"]
            if isinstance(schema, dict):
                schema.pop("$schema", None)
            tests = [[t["description"], ordered(t["data"], schema, schema), t["valid"]] for t in group["tests"]]
            groups.append({"name": f"{name}: {group['description']}", "schema": schema, "tests": tests})
    lines = ",\n".join(json.dumps(g, ensure_ascii=False, separators=(",", ":")) for g in groups)
    OUT.write_text(f"[\n{lines}\n]\n")


if __name__ == "__main__":
    main()
