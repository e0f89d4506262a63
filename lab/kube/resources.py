"""The kinds that the API serves: built-in ones, and those of CustomResourceDefinitions."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from gb10.lab.kube.objects import Obj

VERBS = ["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"]

# The kinds of `kubectl get all`.
ALL_CATEGORY = {
    "cronjobs",
    "daemonsets",
    "deployments",
    "jobs",
    "pods",
    "replicasets",
    "replicationcontrollers",
    "services",
    "statefulsets",
}

# group/version, plural, kind, n(amespaced) or c(luster), short name, subresources
_BUILT_IN = """
v1 namespaces Namespace c ns status,finalize
v1 nodes Node c no status
v1 pods Pod n po status,eviction,log
v1 secrets Secret n - -
v1 configmaps ConfigMap n cm -
v1 services Service n svc status
v1 serviceaccounts ServiceAccount n sa -
v1 events Event n ev -
v1 endpoints Endpoints n ep -
v1 persistentvolumes PersistentVolume c pv status
v1 persistentvolumeclaims PersistentVolumeClaim n pvc status
v1 replicationcontrollers ReplicationController n rc status
v1 resourcequotas ResourceQuota n quota status
apps/v1 deployments Deployment n deploy status,scale
apps/v1 daemonsets DaemonSet n ds status
apps/v1 replicasets ReplicaSet n rs status,scale
apps/v1 statefulsets StatefulSet n sts status,scale
batch/v1 jobs Job n - status
batch/v1 cronjobs CronJob n cj status
coordination.k8s.io/v1 leases Lease n - -
policy/v1 poddisruptionbudgets PodDisruptionBudget n pdb status
rbac.authorization.k8s.io/v1 roles Role n - -
rbac.authorization.k8s.io/v1 rolebindings RoleBinding n - -
rbac.authorization.k8s.io/v1 clusterroles ClusterRole c - -
rbac.authorization.k8s.io/v1 clusterrolebindings ClusterRoleBinding c - -
apiextensions.k8s.io/v1 customresourcedefinitions CustomResourceDefinition c crd status
scheduling.k8s.io/v1 priorityclasses PriorityClass c pc -
node.k8s.io/v1 runtimeclasses RuntimeClass c - -
networking.k8s.io/v1 networkpolicies NetworkPolicy n netpol -
networking.k8s.io/v1 ingresses Ingress n ing status
storage.k8s.io/v1 storageclasses StorageClass c sc -
admissionregistration.k8s.io/v1 validatingwebhookconfigurations ValidatingWebhookConfiguration c - -
admissionregistration.k8s.io/v1 mutatingwebhookconfigurations MutatingWebhookConfiguration c - -
"""


@dataclass(frozen=True)
class Resource:
    """One kind in one version of its group."""

    group: str
    version: str
    plural: str
    kind: str
    namespaced: bool
    short_names: tuple[str, ...] = ()
    subresources: tuple[str, ...] = ()
    built_in: bool = True
    schema: Obj | None = field(default=None, compare=False)

    @property
    def group_version(self) -> str:
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def table_key(self) -> tuple[str, str]:
        """Return the key of the objects' table, which all versions of a kind share."""
        return self.group, self.plural

    @property
    def qualified(self) -> str:
        return f"{self.plural}.{self.group}" if self.group else self.plural


def _words(text: str) -> tuple[str, ...]:
    return tuple(word for word in text.split(",") if word != "-")


def _built_in(line: str) -> Resource:
    group_version, plural, kind, scope, short_names, subresources = line.split()
    group, _, version = group_version.rpartition("/")
    return Resource(group, version, plural, kind, scope == "n", _words(short_names), _words(subresources))


BUILT_IN = tuple(_built_in(line) for line in _BUILT_IN.strip().splitlines())
_BY_PLURAL = {resource.plural: resource for resource in BUILT_IN}


def built_in(plural: str) -> Resource:
    """Return the built-in kind with this plural name, which is unique here."""
    return _BY_PLURAL[plural]


NAMESPACES = built_in("namespaces")
NODES = built_in("nodes")
PODS = built_in("pods")
SECRETS = built_in("secrets")
LEASES = built_in("leases")
DEPLOYMENTS = built_in("deployments")
DAEMONSETS = built_in("daemonsets")
REPLICASETS = built_in("replicasets")
STATEFULSETS = built_in("statefulsets")
JOBS = built_in("jobs")
BUDGETS = built_in("poddisruptionbudgets")
DEFINITIONS = built_in("customresourcedefinitions")


def from_definition(definition: Obj) -> list[Resource]:
    """Return the kinds that a CustomResourceDefinition serves, one for each version."""
    spec: Obj = definition["spec"]
    names: Obj = spec["names"]
    versions: list[dict[str, Any]] = [version for version in spec["versions"] if version.get("served", True)]
    return [
        Resource(
            group=spec["group"],
            version=version["name"],
            plural=names["plural"],
            kind=names["kind"],
            namespaced=spec["scope"] == "Namespaced",
            short_names=tuple(names.get("shortNames") or ()),
            subresources=tuple(version.get("subresources") or ()),
            built_in=False,
            schema=(version.get("schema") or {}).get("openAPIV3Schema"),
        )
        for version in versions
    ]
