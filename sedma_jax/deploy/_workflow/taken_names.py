"""Names of objects that agents and jobs cannot have, since others have them."""


def taken_names(workflow: str, namespace: str) -> dict[str, str]:
    """Say of what the names are that are taken in the namespace of a workflow."""
    taken = {
        f"{workflow}-default-deny": "the policy that denies all traffic",
        f"{workflow}-identity": "the Secret of the agents' keys",
        f"sedma-record-{workflow}": "the record of the deployment",
        "default": "the ServiceAccount that every namespace has",
        "localhost": "every host for itself",
        "ip6-localhost": "every host for itself",
        "ip6-loopback": "every host for itself",
    }
    if namespace == "default":
        taken["kubernetes"] = "the Service of the API server"
    return taken
