"""A small server of one bundle's pictures, in the form that OpenAI's clients speak; loopback by default.

    POST /v1/images/generations    prompt, n, size, response_format=b64_json; seed and steps beside them
    GET  /v1/models, /health, /metrics

One thread draws, a picture at a time; requests wait in a queue with a bound, and are refused with 429 and Retry-After beyond it.
A client that leaves takes its pictures with it. docs/serving.md says how to use it, docs/decisions/0045 why it is so.
"""

from sprint_export.server.listening import serve
from sprint_export.server.settings import Settings

__all__ = ["Settings", "serve"]
