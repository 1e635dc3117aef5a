#!/bin/sh
# QEMU, but for guests: what it is asked about itself it answers, and every guest fails to start. So an agent can be
# asked to start thousands of VMs.
case "$*" in
  *-uuid*) echo "no guest is started in this test" >&2; exit 1 ;;
esac
exec qemu-system-x86_64 "$@"
