"""Rules of the API server that no recorded verdict shows."""

import pytest

from sedma_jax import deploy


def of_pod(**fields):
    """A Deployment whose pods have the given fields besides a container."""
    container = {"name": "c", "image": "i", **fields.pop("container", {})}
    kind, spec = fields.pop("kind", "Deployment"), fields.pop("spec", {})
    return {
        "apiVersion": "apps/v1",
        "kind": kind,
        "metadata": {"name": "a"},
        "spec": {
            "selector": {"matchLabels": {"app": "a"}},
            "template": {
                "metadata": {"labels": {"app": "a"}},
                "spec": {"containers": [container], **fields},
            },
            **spec,
        },
    }


def of_spec(version, kind, **spec):
    return {"apiVersion": version, "kind": kind, "metadata": {"name": "a"}, "spec": spec}


PROBE = {"tcpSocket": {"port": 80}}
MAP = {"name": "m"}
MOUNT = {"volumeMounts": [{"name": "v", "mountPath": "/v"}]}
CLAIM = {
    "accessModes": ["ReadWriteOnce"],
    "resources": {"requests": {"storage": "1Gi"}},
}


# Rules as in `pkg/apis/*/validation` of Kubernetes 1.36; the field is the server's.
@pytest.mark.parametrize(
    ("manifest", "field"),
    [
        (
            of_pod(volumes=[{"name": "v", "configMap": {**MAP, "defaultMode": 600}}]),
            "volumes[0].configMap.defaultMode",
        ),
        (
            of_pod(
                volumes=[
                    {
                        "name": "v",
                        "secret": {
                            "secretName": "s",
                            "items": [{"key": "k", "path": "../k", "mode": 512}],
                        },
                    }
                ]
            ),
            "volumes[0].secret.items[0].mode",
        ),
        (
            of_pod(
                hostNetwork=True,
                container={"ports": [{"containerPort": 80, "hostPort": 81}]},
            ),
            "containers[0].ports[0].hostPort",
        ),
        (of_pod(dnsPolicy="None"), "dnsConfig"),
        (of_pod(dnsPolicy="None", dnsConfig={}), "dnsConfig.nameservers"),
        (
            of_pod(
                container={"readinessProbe": {**PROBE, "terminationGracePeriodSeconds": 5}}
            ),
            "containers[0].readinessProbe.terminationGracePeriodSeconds",
        ),
        (
            of_pod(
                container={"livenessProbe": {**PROBE, "terminationGracePeriodSeconds": 0}}
            ),
            "containers[0].livenessProbe.terminationGracePeriodSeconds",
        ),
        (
            of_pod(container={"lifecycle": {"postStart": {}}}),
            "containers[0].lifecycle.postStart",
        ),
        (
            of_pod(
                container={
                    "env": [
                        {
                            "name": "A",
                            "valueFrom": {"fieldRef": {"fieldPath": "metadata.nam"}},
                        }
                    ]
                }
            ),
            "containers[0].env[0].valueFrom.fieldRef.fieldPath",
        ),
        (
            of_pod(
                container={
                    "securityContext": {
                        "privileged": True,
                        "allowPrivilegeEscalation": False,
                    }
                }
            ),
            "containers[0].securityContext",
        ),
        (of_pod(activeDeadlineSeconds=5), "activeDeadlineSeconds"),
        (of_pod(container=MOUNT), "containers[0].volumeMounts[0].name"),
        (
            of_pod(
                container={"ports": [{"containerPort": 80, "hostPort": 8}] * 2, "name": "c"}
            ),
            "containers[0].ports[1].hostPort",
        ),
    ],
)
def test_rules_of_pods(manifest, field):
    fields = {refusal.field for refusal in deploy.validate([manifest])}
    assert f"spec.template.spec.{field}" in fields


@pytest.mark.parametrize(
    ("manifest", "field"),
    [
        (
            of_spec(
                "v1",
                "Service",
                type="ExternalName",
                clusterIP="10.0.0.1",
                externalName="a.b",
            ),
            "spec.clusterIPs",
        ),
        (
            of_spec("v1", "Service", ports=[{"port": 80}], clusterIP="127.0.0.1"),
            "spec.clusterIPs",
        ),
        (
            of_spec(
                "batch/v1",
                "CronJob",
                schedule="0 24 * * *",
                jobTemplate={
                    "spec": {
                        "template": {"spec": {"restartPolicy": "Never", "containers": []}}
                    }
                },
            ),
            "spec.schedule",
        ),
        (
            of_spec(
                "networking.k8s.io/v1",
                "NetworkPolicy",
                podSelector={},
                ingress=[
                    {
                        "from": [
                            {"ipBlock": {"cidr": "10.0.0.0/8", "except": ["11.0.0.0/16"]}}
                        ]
                    }
                ],
            ),
            "spec.ingress[0].from[0].ipBlock.except[0]",
        ),
        (
            of_spec("v1", "PersistentVolumeClaim", accessModes=["ReadWriteOnce"]),
            "spec.resources[storage]",
        ),
        (
            {
                "apiVersion": "rbac.authorization.k8s.io/v1",
                "kind": "ClusterRoleBinding",
                "metadata": {"name": "a"},
                "roleRef": {"kind": "ClusterRole", "name": "r"},
                "subjects": [{"kind": "ServiceAccount", "name": "x"}],
            },
            "subjects[0].namespace",
        ),
        (
            {
                "apiVersion": "v1",
                "kind": "Secret",
                "metadata": {"name": "a"},
                "data": {"k": "no base64"},
            },
            "data.k",
        ),
        (
            {
                "apiVersion": "v1",
                "kind": "ConfigMap",
                "metadata": {"name": "a"},
                "data": None,
                "dta": None,
            },
            "dta",
        ),
    ],
)
def test_rules_of_other_kinds(manifest, field):
    assert field in {refusal.field for refusal in deploy.validate([manifest])}


@pytest.mark.parametrize(
    "manifest",
    [
        of_pod(volumes=[{"name": "v"}], container=MOUNT),  # an emptyDir by default
        of_pod(kind="StatefulSet", container=MOUNT, spec={
            "volumeClaimTemplates": [{"metadata": {"name": "v"}, "spec": CLAIM}]}),
        of_pod(spec={"strategy": {"rollingUpdate": {"maxSurge": "150%"}}}),
        of_pod(terminationGracePeriodSeconds=-1),
        of_pod(hostNetwork=True, container={"ports": [{"containerPort": 80}]}),
        of_pod(container={"imagePullPolicy": "", "ports": [
            {"containerPort": 80, "protocol": ""}]}),
        of_spec("v1", "Service", ports=[{"port": 80, "targetPort": None}]),
        # A kind of the cluster's own, with rules that only the cluster knows.
        {**of_spec("serving.knative.dev/v1", "Service"), "metadata": {"name": "a.b"}},
        of_spec("networking.k8s.io/v1", "NetworkPolicy", egress=[None, {"ports": [None]}]),
    ],
)  # fmt: skip
def test_what_the_server_gives_a_default_is_accepted(manifest):
    assert deploy.validate([manifest]) == []
