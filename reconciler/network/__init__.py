"""The host's network, as far as it concerns VMs. `firewall` closes VNC ports to guests."""
