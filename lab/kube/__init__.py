"""The lab's stand-in for K3s: a small Kubernetes control plane and node agent in one executable file.

The real kubectl and helm work on it; everything else that it does is only as real as the product's tests need.
It runs on a node's own Python without any package, as the zipapp that `gb10.lab.kube.build` writes.
"""
