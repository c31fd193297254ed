"""Refuse manifests that the API server would refuse, before it sees them."""

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path as FilePath

from .._json import JsonObject
from .._workflow.yaml_files import load_documents, printable
from ._rules.kind import rule_errors
from .schema import Key, Path, read, shown

_BUILT_IN = ("default", "kube-node-lease", "kube-public", "kube-system")


@dataclass(frozen=True)
class Refusal:
    """One reason for which the API server would refuse an object.

    - `object`: its kind and name.
    - `field`: as the server writes it, `spec.template.spec.containers[0].image`.
    - `reason`: what the field needs, and what was received.
    - `file`, `line`: where it stands, from 1; empty and 0 for what is in no file.

    **Example:**

        >>> upper = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "Tour"}}
        >>> (refusal,) = sj.deploy.validate([upper])
        >>> refusal.object, refusal.field, refusal.file
        ('Namespace Tour', 'metadata.name', '')
    """

    object: str
    field: str
    reason: str
    file: str = ""
    line: int = 0

    def __str__(self) -> str:
        where = f"{self.file}:{self.line}: " if self.file else ""
        # Names in a manifest may hold anything, line breaks too.
        return printable(f"{where}{self.object}: {self.field}: {self.reason}.")


def validate(
    manifests: Iterable[object], *, namespaces: Collection[str] | None = None
) -> list[Refusal]:
    """Check Kubernetes manifests without a server.

    Types, unknown fields and duplicates are checked against the published schemas of 1.36;
    names, quantities, selectors, ports, probes, affinity and the rest by rules of our own.

    **Arguments:**

    - `manifests`: objects of Kubernetes, as dictionaries. Of custom resources only the
        metadata is checked, and the jobs of a JobSet as those of a Job.
    - `namespaces`: those of the cluster, beside the built-in ones and those among
        `manifests`. An object in any other is refused. Not checked if left out.

    **Returns:**

    What would be refused, in the order of `manifests`; empty if nothing would be.

    **Example:**

        >>> space = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "tour"}}
        >>> sj.deploy.validate([space])
        []
        >>> print(*sj.deploy.validate([space | {"metadata": {"name": "Tour"}}]))
        Namespace Tour: metadata.name: ...
    """
    manifests = list(manifests)
    known = None if namespaces is None else {*namespaces, *_BUILT_IN, *_made(manifests)}
    found = []
    for manifest in manifests:
        for path, reason in _errors(manifest, known):
            found.append(Refusal(_title(manifest), _field(path), reason))
    return found


def validate_files(
    paths: Iterable[str | FilePath], *, namespaces: Collection[str] | None = None
) -> tuple[int, list[Refusal]]:
    """Check files of manifests; as `validate`, with the file and line of each refusal.

    **Returns:** the number of objects, and what would be refused of them.

    **Raises:** `ValueError` for a file that cannot be read, or is no YAML.

    **Example:**

        >>> from pathlib import Path
        >>> manifest = sj.deploy.compile()["manifests/10-crossbar.yaml"]
        >>> wrong = manifest.replace("replicas: 1", "replicas: one")
        >>> _ = Path("agent.yaml").write_text(wrong)
        >>> _, (refusal,) = sj.deploy.validate_files(["agent.yaml"])
        >>> print(refusal)
        agent.yaml:...: Deployment crossbar: spec.replicas: ...
    """
    documents = [(str(path), *read) for path in paths for read in load_documents(path)]
    manifests = [manifest for _, manifest, _ in documents]
    known = None if namespaces is None else {*namespaces, *_BUILT_IN, *_made(manifests)}
    found = []
    for name, manifest, line_of in documents:
        for path, reason in _errors(manifest, known):
            refusal = Refusal(
                object=_title(manifest),
                field=_field(path),
                reason=reason,
                file=name,
                line=line_of(_place(path)),
            )
            found.append(refusal)
    return len(documents), found


def _errors(manifest: object, known: set[str] | None) -> list[tuple[Path, str]]:
    if not isinstance(manifest, dict):
        return [((), f"needs an object with apiVersion and kind. Got {shown(manifest)}")]
    try:
        found = _refusals(manifest)
    except RecursionError:
        return [((), "needs fewer levels of lists and fields")]
    namespace = _namespace(manifest)
    if known is not None and namespace and namespace not in known:
        listed = ", ".join(sorted(known)[:8])
        found.append(
            (("metadata", "namespace"), f"needs one of {listed}. Got {namespace!r}")
        )
    return found


def _refusals(manifest: JsonObject) -> list[tuple[Path, str]]:
    """What the server would refuse, as it would: first what it cannot read, alone."""
    reading = read(manifest)
    if reading.unreadable:
        return sorted(reading.unreadable, key=lambda error: list(map(str, error[0])))
    lacking = {path for path, _ in reading.lacking}
    reading.manifest.setdefault("metadata", {})
    ruled = [error for error in rule_errors(reading.manifest) if error[0] not in lacking]
    return list(dict.fromkeys([*reading.lacking, *ruled]))


def _meta(manifest: object) -> JsonObject:
    meta = manifest.get("metadata") if isinstance(manifest, dict) else None
    return meta if isinstance(meta, dict) else {}


def _namespace(manifest: JsonObject) -> str | None:
    namespace = _meta(manifest).get("namespace")
    return namespace if isinstance(namespace, str) else None


def _made(manifests: Iterable[object]) -> Iterator[str]:
    """Names of the namespaces among the manifests."""
    for manifest in manifests:
        if isinstance(manifest, dict) and manifest.get("kind") == "Namespace":
            name = _meta(manifest).get("name")
            if isinstance(name, str):
                yield name


def _title(manifest: object) -> str:
    if not isinstance(manifest, dict):
        return "object"
    kind, name = manifest.get("kind"), _meta(manifest).get("name")
    kind = kind[:63] if isinstance(kind, str) and kind else "object"
    return f"{kind} {name[:63] if isinstance(name, str) and name else '(no name)'}"


def _place(path: Path) -> Path:
    """Where a field stands that the server names without the `metadata` it is in."""
    for k, step in enumerate(path[:-1]):
        if step == "template" and path[k + 1] in ("annotations", "labels"):
            return (*path[: k + 1], "metadata", *path[k + 1 :])
    return path


def _field(path: Path) -> str:
    text = ""
    for step in path:
        if isinstance(step, int | Key):
            text += f"[{step}]"
        else:
            text += f".{step}" if text else str(step)
    return text or "[]"
