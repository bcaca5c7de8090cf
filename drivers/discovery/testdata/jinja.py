"""Renders templates as Home Assistant does: each line is a JSON list of a template and a payload."""

import json
import sys

import jinja2

environment = jinja2.Environment()
environment.filters["to_json"] = json.dumps
for line in sys.stdin:
    template, payload = json.loads(line)
    known = {"value": payload}
    try:
        known["value_json"] = json.loads(payload)
    except ValueError:
        pass
    print(environment.from_string(template).render(known))
