"""The type of what Kubernetes reads and writes."""

from typing import Any

# Keys are text in what is checked; YAML has other keys too, and the checks see those first.
JsonObject = dict[Any, Any]
"""An object of JSON, such as a manifest."""
