"""From other people's descriptions of VMs to ours: pure conversions, each with a list of what it could not carry over.

Nothing is opened, asked or written here; `reconciler.cli.importing` does that. Next: `reconciler.importing.libvirt`.
"""
