"""The type of what Kubernetes and Prometheus exchange."""

from typing import Any

JsonObject = dict[str, Any]
"""A JSON object, such as a Kubernetes object or a part of one."""
