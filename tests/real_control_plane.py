"""A real control plane on loopback, from the binaries that KUBEBUILDER_ASSETS names.

It needs `etcd`, `kube-apiserver`, `kube-scheduler` and `kube-controller-manager`. Its nodes
are Node objects alone; a thread plays their kubelets: it renews Leases and writes the
statuses of pods.
"""

import contextlib
import datetime
import json
import os
import secrets
import socket
import ssl
import subprocess
import threading
import time
import urllib.request
from pathlib import Path

import kubernetes.client
from certificates import write_certificates
from kubernetes.client.exceptions import ApiException

from sedma_jax.deploy._control.cluster import Cluster, ClusterError

_USERS = {
    "admin": "system:masters",
    "system:kube-scheduler": "",
    "system:kube-controller-manager": "",
}
_NAMESPACES = ("default", "kube-node-lease", "kube-system")
_KEPT = {"kube-root-ca.crt", "kubernetes", "default"}  # the cluster's own
_KINDS = [
    ("apps/v1", "Deployment"),
    ("apps/v1", "StatefulSet"),
    ("policy/v1", "PodDisruptionBudget"),
    ("networking.k8s.io/v1", "NetworkPolicy"),
    ("v1", "Service"),
    ("v1", "ConfigMap"),
    ("v1", "ServiceAccount"),
    ("coordination.k8s.io/v1", "Lease"),
    ("v1", "Event"),
    ("v1", "Pod"),
]


def missing():
    """Say what is missing to start one, None if nothing is."""
    folder = os.environ.get("KUBEBUILDER_ASSETS")
    if not folder:
        return "KUBEBUILDER_ASSETS is not set"
    names = ("etcd", "kube-apiserver", "kube-scheduler", "kube-controller-manager")
    absent = [name for name in names if not (Path(folder) / name).exists()]
    return f"{', '.join(absent)} not in {folder}" if absent else None


class RealPlane:
    """A control plane that is started once; `reset` empties it between tests."""

    tier = "real"
    grace = 8.0  # seconds of silence until the controllers call a node not ready

    def __init__(self, folder):
        self._folder, self._bin = Path(folder), Path(os.environ["KUBEBUILDER_ASSETS"])
        self._processes, self._nodes, self._down = [], {}, set()
        self._end, self._beating = threading.Event(), threading.Lock()
        self._tokens = {user: secrets.token_hex(16) for user in _USERS}
        self._start()
        self._own = self.cluster(patience=20)
        self._wait_for_namespaces()
        threading.Thread(target=self._kubelets, daemon=True).start()

    def cluster(self, **options):
        settings = kubernetes.client.Configuration(host=f"https://127.0.0.1:{self._port}")
        settings.ssl_ca_cert = str(self._folder / "ca.crt")
        token = {"Authorization": f"Bearer {self._tokens['admin']}"}
        api = kubernetes.client.ApiClient(settings)
        api.default_headers |= token
        return Cluster(api, **options)

    def add_node(self, name, cpu, memory):
        size = {"cpu": str(cpu), "memory": str(memory), "pods": "110"}
        node = {
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": {"name": name, "labels": {"kubernetes.io/hostname": name}},
        }
        self._own.create(node)
        self._nodes[name] = size
        self._down.discard(name)
        self._beat(name)
        end = time.monotonic() + 30  # until the controllers remove the not-ready taint
        while self._own.get("v1", "Node", name)["spec"].get("taints"):
            if time.monotonic() > end:
                raise TimeoutError(f"Node {name} keeps its taints.")
            time.sleep(0.1)

    def delete_node(self, name):
        self._down.add(name)
        with self._beating:
            self._nodes.pop(name)
        if node := self._own.get("v1", "Node", name):
            self._own.delete("v1", "Node", node["metadata"])

    def kill_node(self, name):
        """Stop the heartbeat of a node; the controllers notice within seconds."""
        self._down.add(name)

    def reset(self):
        for version, kind in _KINDS:
            for item in self._own.list(version, kind, "default")[0]:
                if item["metadata"]["name"] not in _KEPT:
                    seconds = 0 if kind == "Pod" else None
                    self._own.delete(version, kind, item["metadata"], seconds=seconds)
        for name in list(self._nodes):
            self.delete_node(name)

    def close(self):
        self._end.set()
        for process in reversed(self._processes):  # etcd last: the server waits for it
            process.terminate()
            try:
                process.wait(8)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def _start(self):
        etcd, peer, self._port = free_port(), free_port(), free_port()
        write_certificates(self._folder)
        rows = [f'{t},{u},{u},"{_USERS[u]}"' for u, t in self._tokens.items()]
        (self._folder / "tokens").write_text("\n".join(rows) + "\n")
        at = f"http://127.0.0.1:{etcd}"
        self._spawn(
            "etcd",
            f"--data-dir={self._folder / 'etcd'}",
            f"--listen-client-urls={at}",
            f"--advertise-client-urls={at}",
            f"--listen-peer-urls=http://127.0.0.1:{peer}",
            f"--initial-advertise-peer-urls=http://127.0.0.1:{peer}",
            f"--initial-cluster=default=http://127.0.0.1:{peer}",
            "--unsafe-no-fsync",
        )
        self._spawn(
            "kube-apiserver",
            f"--etcd-servers={at}",
            "--bind-address=127.0.0.1",
            "--advertise-address=127.0.0.1",
            f"--secure-port={self._port}",
            "--endpoint-reconciler-type=none",
            "--service-cluster-ip-range=10.96.0.0/16",
            "--authorization-mode=RBAC",
            f"--tls-cert-file={self._folder / 'server.crt'}",
            f"--tls-private-key-file={self._folder / 'server.key'}",
            f"--token-auth-file={self._folder / 'tokens'}",
            "--service-account-issuer=https://kubernetes.default.svc",
            f"--service-account-signing-key-file={self._folder / 'sa.key'}",
            f"--service-account-key-file={self._folder / 'sa.key'}",
        )
        self._wait()
        rate = ("--kube-api-qps=500", "--kube-api-burst=1000", "--leader-elect=false")
        self._spawn(
            "kube-scheduler",
            f"--kubeconfig={self._config('system:kube-scheduler')}",
            f"--secure-port={free_port()}",
            *rate,
        )
        self._spawn(
            "kube-controller-manager",
            f"--kubeconfig={self._config('system:kube-controller-manager')}",
            f"--secure-port={free_port()}",
            "--use-service-account-credentials=true",
            f"--service-account-private-key-file={self._folder / 'sa.key'}",
            "--node-monitor-period=1s",
            f"--node-monitor-grace-period={self.grace:g}s",
            f"--root-ca-file={self._folder / 'ca.crt'}",
            *rate,
        )

    def _spawn(self, name, *arguments):
        log = (self._folder / f"{name}.log").open("wb")
        command = [str(self._bin / name), *arguments]
        self._processes.append(subprocess.Popen(command, stdout=log, stderr=log))

    def _config(self, user):
        path = self._folder / f"{user.replace(':', '-')}.json"
        server = {
            "server": f"https://127.0.0.1:{self._port}",
            "certificate-authority": str(self._folder / "ca.crt"),
        }
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "c",
            "clusters": [{"name": "c", "cluster": server}],
            "users": [{"name": "u", "user": {"token": self._tokens[user]}}],
            "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
        }
        path.write_text(json.dumps(config))
        return path

    def _wait(self):
        context = ssl.create_default_context(cafile=self._folder / "ca.crt")
        request = urllib.request.Request(
            f"https://127.0.0.1:{self._port}/readyz",
            headers={"Authorization": f"Bearer {self._tokens['admin']}"},
        )
        end = time.monotonic() + 60
        while time.monotonic() < end:
            with contextlib.suppress(OSError):
                with urllib.request.urlopen(request, context=context, timeout=2):
                    return
            time.sleep(0.1)
        raise TimeoutError(f"The API server is not ready; see {self._folder}.")

    def _wait_for_namespaces(self):
        """The server is ready before it has made the namespaces that it begins with."""
        end = time.monotonic() + 30
        for name in _NAMESPACES:
            while self._own.get("v1", "Namespace", name) is None:
                if time.monotonic() > end:
                    raise TimeoutError(f"The server makes no namespace {name}.")
                time.sleep(0.1)

    def _kubelets(self):
        beat = 0.0
        while not self._end.wait(0.1):
            # An object may be deleted, or the server busy, between two requests.
            with contextlib.suppress(ClusterError, ApiException, OSError):
                if time.monotonic() - beat > 2:
                    beat = time.monotonic()
                    for name in list(self._nodes):
                        if name not in self._down:
                            self._beat(name)
                for pod in self._own.list("v1", "Pod", fields="spec.nodeName!=")[0]:
                    self._run(pod)

    def _beat(self, name):
        """Renew the Lease of a node that is still there; one thread at a time."""
        with self._beating:
            if name in self._nodes:
                self._renew(name)

    def _renew(self, name):
        stamp = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        lease = {
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": {"name": name, "namespace": "kube-node-lease"},
            "spec": {
                "holderIdentity": name,
                "leaseDurationSeconds": 40,
                "renewTime": stamp,
            },
        }
        self._own.apply(lease, force=True)
        ready = {"type": "Ready", "status": "True", "reason": "KubeletReady"}
        size = self._nodes[name]
        status = {"capacity": size, "allocatable": size, "conditions": [ready]}
        self._status("Node", {"name": name}, status)

    def _run(self, pod):
        meta, node = pod["metadata"], pod["spec"]["nodeName"]
        if node in self._down or node not in self._nodes:
            return
        if meta.get("deletionTimestamp"):
            self._own.delete("v1", "Pod", meta, seconds=0)
        elif (pod.get("status") or {}).get("phase", "Pending") == "Pending":
            if "broken" in pod["spec"]["containers"][0]["image"]:
                waiting = {"reason": "ImagePullBackOff", "message": "no such image"}
                state = {"waiting": waiting}
                states = [self._container(c, state) for c in containers(pod)]
                self._status("Pod", meta, {"containerStatuses": states})
                return
            stamp = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
            running = {"running": {"startedAt": stamp}}
            states = [self._container(c, running) for c in containers(pod)]
            kinds = ("Initialized", "Ready", "ContainersReady", "PodScheduled")
            conditions = [{"type": kind, "status": "True"} for kind in kinds]
            status = {
                "phase": "Running",
                "podIP": "127.0.0.1",
                "containerStatuses": states,
                "conditions": conditions,
            }
            self._status("Pod", meta, status)

    def _container(self, container, state):
        asked = container.get("resources", {})
        return {
            "name": container["name"],
            "image": container["image"],
            "imageID": container["image"],
            "ready": "running" in state,
            "started": "running" in state,
            "restartCount": 0,
            "state": state,
            "resources": asked,
            "allocatedResources": asked.get("requests", {}),
        }

    def _status(self, kind, meta, status):
        kept = {k: meta[k] for k in ("name", "namespace") if k in meta}
        self._own._kind("v1", kind, "status").patch(
            body={"metadata": kept, "status": status},
            name=meta["name"],
            namespace=meta.get("namespace"),
            content_type="application/merge-patch+json",
        )


def containers(pod):
    return pod["spec"]["containers"]


def free_port():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]
