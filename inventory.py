"""Two DGX Sparks: enter your own addresses, then type `gb10 trust spark-1 spark-2` and `gb10 bootstrap --dry-run`.

You can set every key of group_data/all.py here, for one host or, as the second part of a group's tuple, for a group.
"""

# The head runs the K3s server, and answers for a model that is served over both nodes.
head = [
    (
        "spark-1",  # the node's name: in Kubernetes, in backups, and on the command line
        {
            # Its address on the management network: a DHCP reservation survives a wipe. If you use a name here, set the
            # address as "node_ip", for K3s.
            "ssh_hostname": "192.168.1.11",
            "ssh_user": "nvidia",
            "ssh_strict_host_key_checking": "yes",  # `gb10 trust` asks you, and puts its key into known_hosts
            "_sudo": True,  # this user's sudo must not ask for a password
            "rails": {  # the two halves of the cabled ConnectX-7 port, each in its own subnet
                "a": {"interface": "enp1s0f0np0", "address": "192.168.100.11/24"},
                "b": {"interface": "enP2p1s0f0np0", "address": "192.168.101.11/24"},
            },
        },
    ),
]

workers = [
    (
        "spark-2",
        {
            "ssh_hostname": "192.168.1.12",
            "ssh_user": "nvidia",
            "ssh_strict_host_key_checking": "yes",
            "_sudo": True,
            "rails": {
                "a": {"interface": "enp1s0f0np0", "address": "192.168.100.12/24"},
                "b": {"interface": "enP2p1s0f0np0", "address": "192.168.101.12/24"},
            },
        },
    ),
]
