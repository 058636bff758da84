"""The product on hosts with a real systemd: one boots in namespaces, as a node of a cluster."""
