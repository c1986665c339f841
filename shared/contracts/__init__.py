"""Every message and HTTP body, by subject: the public schema, and the one source for JSON Schema and OpenAPI.

Field names are camelCase on the wire. Unknown fields are refused by name. A message on a queue is a CloudEvents 1.0
event in structured JSON, or the bare ``data`` object for senders that know no CloudEvents.
"""
