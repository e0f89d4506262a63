"""The addons that K3s deploys by itself: coredns, local-path storage, and Traefik with its svclb.

K3s' metrics-server and Helm controller are left out, and Traefik is created directly. The setting `disable` takes the
names coredns, local-storage, runtimes, servicelb and traefik. Disabled addons are deleted if they exist.
"""

from __future__ import annotations

from gb10.lab.kube.objects import Obj, name
from gb10.lab.kube.resources import DAEMONSETS, DEPLOYMENTS, Resource, built_in
from gb10.lab.kube.store import Store

NAMESPACE = "kube-system"
# The runtimes that K3s knows and this project's operators may use.
RUNTIMES = ("crun", "nvidia", "nvidia-experimental")

Part = tuple[Resource, Obj]


def _workload(name: str, image: str) -> Obj:
    labels = {"k8s-app": name, "objectset.rio.cattle.io/owner-name": name}
    template = {"metadata": {"labels": labels}, "spec": {"containers": [{"name": name, "image": image}]}}
    return {
        "metadata": {"name": name, "labels": labels},
        "spec": {"selector": {"matchLabels": labels}, "template": template},
    }


def _service(name: str, kind: str, address: str, ports: list[Obj]) -> Obj:
    spec = {"type": kind, "clusterIP": address, "ports": ports, "selector": {"k8s-app": name}}
    return {"metadata": {"name": name}, "spec": spec}


def _parts() -> dict[str, list[Part]]:
    """Return each addon's objects."""
    services = built_in("services")
    dns: list[Obj] = [{"name": "dns", "port": 53, "protocol": "UDP"}]
    web: list[Obj] = [{"name": "web", "port": 80}, {"name": "websecure", "port": 443}]
    storage_class = {
        "metadata": {
            "name": "local-path",
            "annotations": {"storageclass.kubernetes.io/is-default-class": "true"},
        },
        "provisioner": "rancher.io/local-path",
        "reclaimPolicy": "Delete",
        "volumeBindingMode": "WaitForFirstConsumer",
    }
    return {
        "coredns": [
            (DEPLOYMENTS, _workload("coredns", "rancher/mirrored-coredns-coredns:1.14.1")),
            (services, _service("kube-dns", "ClusterIP", "10.43.0.10", dns)),
        ],
        "local-storage": [(built_in("storageclasses"), storage_class)],
        "runtimes": [
            (built_in("runtimeclasses"), {"metadata": {"name": runtime}, "handler": runtime}) for runtime in RUNTIMES
        ],
        "traefik": [
            (DEPLOYMENTS, _workload("traefik", "rancher/mirrored-library-traefik:3.6.7")),
            (services, _service("traefik", "LoadBalancer", "10.43.0.80", web)),
        ],
        "servicelb": [(DAEMONSETS, _workload("svclb-traefik", "rancher/klipper-lb:v0.4.13"))],
    }


def deploy(store: Store, disabled: list[str]) -> None:
    """Create the missing addons and delete the disabled ones."""
    unwanted = set(disabled)
    if "traefik" in unwanted:
        unwanted.add("servicelb")  # here the load balancer serves only Traefik
    with store.cond:
        for addon, parts in _parts().items():
            for resource, body in parts:
                _settle(store, resource, body, addon not in unwanted)


def _settle(store: Store, resource: Resource, body: Obj, wanted: bool) -> None:
    namespace = NAMESPACE if resource.namespaced else None
    present = store.table(resource).get((namespace, name(body)))
    if wanted and present is None:
        store.create(resource, namespace, body)
    elif present is not None and not wanted:
        store.delete(resource, present)
