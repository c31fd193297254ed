"""Kubernetes objects of a workflow, as dictionaries."""

from .._workflow.specification import Agent, JaxJob, Workflow

PORTS = {"http": 8080, "grpc": 8081, "libp2p": 8082}
_CONFINED = {
    "allowPrivilegeEscalation": False,
    "readOnlyRootFilesystem": True,
    "capabilities": {"drop": ["ALL"]},
}
_UNPRIVILEGED = {
    "runAsNonRoot": True,
    "runAsUser": 65532,
    "seccompProfile": {"type": "RuntimeDefault"},
}
_TMP = {"name": "tmp", "emptyDir": {"sizeLimit": "64Mi"}}  # else nothing can be written
_COORDINATOR = 55527  # where jax.distributed listens on Kubernetes
OWNER = "sedma"  # field manager, and value of the label that marks what may be pruned


def labels(workflow: Workflow, name: str | None = None) -> dict[str, str]:
    """Mark an object as a part of this workflow, and of one agent of it."""
    found = {
        "app.kubernetes.io/managed-by": OWNER,
        "app.kubernetes.io/part-of": workflow.name,
    }
    return found | ({"app.kubernetes.io/name": name} if name else {})


def protocols(workflow: Workflow, agent: Agent) -> list[str]:
    """What an agent is called by; an agent that none calls serves HTTP to the outside."""
    called = {edge.protocol for edge in workflow.edges if edge.target == agent.name}
    return [name for name in PORTS if name in (called or {"http"})]


def agent_objects(
    workflow: Workflow, agent: Agent, nodes: list[str] | None = None
) -> list[dict]:
    """Make all objects of one agent; `nodes` pins its replicas to those of a placement."""
    spoken = protocols(workflow, agent)
    selector = {"matchLabels": labels(workflow, agent.name)}
    ports = [{"name": p, "port": PORTS[p], "targetPort": p} for p in spoken]
    service = {"selector": selector["matchLabels"], "ports": ports}
    if agent.stateful:
        service = {"clusterIP": "None"} | service
    meta = lambda: _meta(workflow, agent.name)
    workload = {
        "replicas": agent.replicas,
        "selector": selector,
        "template": {
            "metadata": {"labels": labels(workflow, agent.name)},
            "spec": _pod(workflow, agent, spoken, nodes),
        },
    }
    if agent.stateful:
        kind, workload = "StatefulSet", {"serviceName": agent.name} | workload
    else:
        # A surge needs room that a full cluster lacks: old and new pods then wait for
        # each other for good.
        kind = "Deployment"
        strategy = {"type": "Recreate"}
        if agent.replicas > 1:
            rolling = {"maxSurge": 0, "maxUnavailable": 1}
            strategy = {"type": "RollingUpdate", "rollingUpdate": rolling}
        workload = {"strategy": strategy} | workload
    objects = [
        _object("v1", "ServiceAccount", meta(), automountServiceAccountToken=False),
        _object("v1", "ConfigMap", meta(), data=_environment(workflow, agent)),
        _object("v1", "Service", meta(), spec=service),
        _object("apps/v1", kind, meta(), spec=workload),
        _network_policy(workflow, agent, spoken, selector),
    ]
    if agent.replicas > 1:
        budget = {"maxUnavailable": 1, "selector": selector}
        objects.append(_object("policy/v1", "PodDisruptionBudget", meta(), spec=budget))
    return objects


def workflow_objects(workflow: Workflow) -> list[dict]:
    """Make what the agents have in common: priority, and default deny."""
    meta = _meta(workflow, f"{workflow.name}-default-deny")
    meta["labels"] = labels(workflow)  # the name may be too long for a label
    deny = {
        "podSelector": {"matchLabels": labels(workflow)},
        "policyTypes": ["Ingress", "Egress"],
    }
    priority = _object(
        "scheduling.k8s.io/v1",
        "PriorityClass",
        # Cluster-wide: the namespace keeps two workflows of one name apart.
        {
            "name": f"{workflow.namespace}-{workflow.name}",
            "labels": labels(workflow),
        },
        value=1000,
        globalDefault=False,
        description=f"Agents of the workflow {workflow.name}.",
    )
    return [priority, _object("networking.k8s.io/v1", "NetworkPolicy", meta, spec=deny)]


def _pod(workflow, agent, spoken, nodes):
    # SEDMA_SECRET, which peers derive their keys from; without it ids prove nothing.
    secret = {"secretRef": {"name": f"{workflow.name}-identity", "optional": True}}
    secrets = [secret] * speaks_libp2p(workflow, agent)
    probe = {"tcpSocket": {"port": spoken[0]}}
    container = {
        "name": "agent",
        "image": agent.image or f"localhost/{workflow.name}:latest",
        "envFrom": [{"configMapRef": {"name": agent.name}}, *secrets],
        "ports": [{"name": p, "containerPort": PORTS[p]} for p in spoken],
        "resources": {
            "requests": {"cpu": agent.cpu, "memory": agent.memory},
            "limits": {"memory": agent.memory},
        },
        "startupProbe": probe | {"periodSeconds": 1, "failureThreshold": 120},
        "readinessProbe": probe | {"periodSeconds": 5},
        "livenessProbe": probe | {"periodSeconds": 20, "failureThreshold": 3},
        "volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}],
        "securityContext": _CONFINED,
    }
    pod = {
        "serviceAccountName": agent.name,
        "automountServiceAccountToken": False,
        "priorityClassName": f"{workflow.namespace}-{workflow.name}",
        "securityContext": _UNPRIVILEGED,
        "containers": [container],
        "volumes": [_TMP],
    }
    if nodes:
        terms = [
            {
                "matchExpressions": [
                    {
                        "key": "kubernetes.io/hostname",
                        "operator": "In",
                        "values": sorted(set(nodes)),
                    }
                ]
            }
        ]
        required = {"nodeSelectorTerms": terms}
        pod["affinity"] = {
            "nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": required}
        }
    if agent.replicas > 1:
        # A placement has one node for each replica; without one, spreading is a wish.
        spread = len(set(nodes or ())) == agent.replicas
        pod["topologySpreadConstraints"] = [
            {
                "maxSkew": 1,
                "topologyKey": "kubernetes.io/hostname",
                "whenUnsatisfiable": "DoNotSchedule" if spread else "ScheduleAnyway",
                "labelSelector": {"matchLabels": labels(workflow, agent.name)},
            }
        ]
    return pod


def _environment(workflow, agent):
    ports = ",".join(f"{p}={PORTS[p]}" for p in protocols(workflow, agent))
    found = {"SEDMA_ENTRY": agent.entry, "SEDMA_PORTS": ports}
    for edge in sorted(workflow.edges, key=lambda e: (e.target, e.protocol)):
        if edge.source == agent.name:
            name = edge.target.upper().replace("-", "_")
            found[f"SEDMA_CALL_{name}"] = (
                f"{edge.protocol}://{edge.target}:{PORTS[edge.protocol]}"
            )
    peers = [e for e in workflow.edges if e.protocol == "libp2p"]
    if callers := sorted({e.source for e in peers if e.target == agent.name}):
        found["SEDMA_CALLERS"] = ",".join(callers)
    if speaks_libp2p(workflow, agent):
        found["SEDMA_AGENT"] = f"{workflow.name}/{agent.name}"
    return found


def speaks_libp2p(workflow: Workflow, agent: Agent) -> bool:
    """Whether an agent has a libp2p edge, and so a peer."""
    ends = [(e.source, e.target) for e in workflow.edges if e.protocol == "libp2p"]
    return any(agent.name in pair for pair in ends)


def _network_policy(workflow, agent, spoken, selector):
    to = lambda name: {"podSelector": {"matchLabels": labels(workflow, name)}}
    port = lambda protocol: {"port": PORTS[protocol], "protocol": "TCP"}
    ingress = [
        {"from": [to(e.source)], "ports": [port(e.protocol)]}
        for e in workflow.edges
        if e.target == agent.name
    ]
    if not ingress:  # an entry of the workflow
        ingress = [{"ports": [port(p) for p in spoken]}]
    egress = [
        {"to": [to(e.target)], "ports": [port(e.protocol)]}
        for e in workflow.edges
        if e.source == agent.name
    ]
    if egress:
        egress.append(_NAMES)
    return _object(
        "networking.k8s.io/v1",
        "NetworkPolicy",
        _meta(workflow, agent.name),
        spec={
            "podSelector": selector,
            "policyTypes": ["Ingress", "Egress"],
            "ingress": ingress,
            "egress": egress,
        },
    )


def job_objects(workflow: Workflow, job: JaxJob) -> list[dict]:
    """Make a multi-host JAX job that `jax.distributed.initialize()` finds by itself."""
    meta = lambda: _meta(workflow, job.name)
    rules = [
        {
            "apiGroups": [""],
            "resources": ["pods", "services"],
            "verbs": ["get", "list", "watch"],
        },
        {"apiGroups": ["batch"], "resources": ["jobs"], "verbs": ["get", "list", "watch"]},
    ]
    role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": job.name}
    subject = {
        "kind": "ServiceAccount",
        "name": job.name,
        "namespace": workflow.namespace,
    }
    rbac = "rbac.authorization.k8s.io/v1"
    resources = {
        "requests": {"cpu": job.cpu, "memory": job.memory},
        "limits": {"memory": job.memory},
    }
    first = f"{job.name}-hosts-0-0" if job.carrier == "jobset" else f"{job.name}-0"
    container = {
        "name": "jax",
        "image": job.image,
        "command": list(job.command),
        # For programs that do not ask the API server where they are.
        "env": [
            {"name": "NUM_PROCESSES", "value": str(job.processes)},
            {"name": "JAX_COORDINATOR", "value": f"{first}.{job.name}:{_COORDINATOR}"},
        ],
        "ports": [{"name": "coordinator", "containerPort": _COORDINATOR}],
        "resources": resources,
        "volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}],
        "securityContext": _CONFINED,
    }
    pod = {
        "subdomain": job.name,
        "serviceAccountName": job.name,
        "restartPolicy": "Never",
        "priorityClassName": f"{workflow.namespace}-{workflow.name}",
        "securityContext": _UNPRIVILEGED,
        "topologySpreadConstraints": [
            {
                "maxSkew": 1,
                "topologyKey": "kubernetes.io/hostname",
                "whenUnsatisfiable": "DoNotSchedule",
                "labelSelector": {"matchLabels": labels(workflow, job.name)},
            }
        ],
        "containers": [container],
        "volumes": [_TMP],
    }
    spec = {
        "completionMode": "Indexed",
        "completions": job.processes,
        "parallelism": job.processes,
        "backoffLimit": 0,  # a process alone has no world to join again
        "template": {"metadata": {"labels": labels(workflow, job.name)}, "spec": pod},
    }
    objects = [
        _object("v1", "ServiceAccount", meta()),
        _object(rbac, "Role", meta(), rules=rules),
        _object(rbac, "RoleBinding", meta(), roleRef=role, subjects=[subject]),
        _job_policy(workflow, job),
    ]
    if job.carrier == "jobset":
        # JobSet makes the headless Service, named as itself, and restarts all at once.
        replicated = {"name": "hosts", "replicas": 1, "template": {"spec": spec}}
        jobset = {
            "failurePolicy": {"maxRestarts": 3},
            "network": {"enableDNSHostnames": True, "publishNotReadyAddresses": True},
            "replicatedJobs": [replicated],
        }
        api = "jobset.x-k8s.io/v1alpha2"
        return [*objects, _object(api, "JobSet", meta(), spec=jobset)]
    service = {
        "clusterIP": "None",
        "publishNotReadyAddresses": True,  # the processes meet before any is ready
        "selector": {"batch.kubernetes.io/job-name": job.name},
    }
    return [
        *objects,
        _object("v1", "Service", meta(), spec=service),
        _object("batch/v1", "Job", meta(), spec=spec),
    ]


def _job_policy(workflow, job):
    """Let processes meet each other, and ask the API server where they are."""
    selector = {"matchLabels": labels(workflow, job.name)}
    each_other = [{"podSelector": selector}]
    api = [{"port": port, "protocol": "TCP"} for port in (443, 6443)]
    return _object(
        "networking.k8s.io/v1",
        "NetworkPolicy",
        _meta(workflow, job.name),
        spec={
            "podSelector": selector,
            "policyTypes": ["Ingress", "Egress"],
            "ingress": [{"from": each_other}],
            "egress": [{"to": each_other}, {"ports": api}, _NAMES],
        },
    )


# What a name is resolved by.
_NAMES = {
    "to": [{"namespaceSelector": {}}],
    "ports": [{"port": 53, "protocol": p} for p in ("UDP", "TCP")],
}


def _meta(workflow, name):
    return {
        "name": name,
        "namespace": workflow.namespace,
        "labels": labels(workflow, name),
    }


def _object(version, kind, metadata, **fields):
    return {"apiVersion": version, "kind": kind, "metadata": metadata, **fields}
