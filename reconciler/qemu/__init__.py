"""The door to QEMU: its command line, its monitor, its process, its images.

Pure: `machine`, `devices`, `command_line` (what QEMU is started with), `identity` (what a guest may rely on),
`fields` (what a change of a manifest needs), `view` (what QEMU's answers mean). Acting: `sockets`, `process`,
`exits`, `monitor`, `media`, `images`, `isos`, `binary`, `accel`. Each module acts for one VM, and none knows
of manifests or plans.
"""
