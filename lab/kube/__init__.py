"""The lab's stand-in for K3s: a small Kubernetes control plane and node agent in one executable file.

The real kubectl and helm work with it. Everything else is only as real as the product's tests need. It runs with a
node's own Python and no packages, as a zipapp that `gb10.lab.kube.build` writes.
"""
