"""The state directory: what the agent keeps of each VM, and the trash. Read `records`, then `trash`."""
