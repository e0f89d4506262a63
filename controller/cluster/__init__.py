"""The cluster: status, health, validation, serving, kubeconfig."""
