#!/bin/bash
# guest/build.sh OUTDIR DEBDIR
#
# Builds the tiny guest, for the demo and for the tests, in a few seconds and without root, mounts or
# network, from DEBDIR/{kernel,qemu-guest-agent}.deb (.ci/setup debs) and this machine's busybox:
#
#   OUTDIR/{demo,deaf,poweroff,panic}.iso   bootable by BIOS, from a CD and from a disk; the same guest but
#                                           for the kernel's command line, which rootfs/etc/lib reads
#   OUTDIR/demo.qcow2                       demo.iso as a disk
#   OUTDIR/data.iso                         label DATADISC, not bootable
#   OUTDIR/{vmlinuz,initrd.gz}              for QEMU's -kernel and -initrd
set -euo pipefail

SOURCE=$(dirname "$(realpath "$0")")
readonly VARIANTS=(demo deaf poweroff panic)
readonly ISOLINUX=/usr/lib/ISOLINUX BIOS_MODULES=/usr/lib/syslinux/modules/bios

fail() { printf 'guest: %s\n' "$*" >&2; exit 1; }

(($# == 2)) || fail "usage: guest/build.sh OUTDIR DEBDIR"
mkdir -p "$1"
OUT=$(realpath "$1") DEBS=$(realpath "$2")
WORK=$(mktemp -d "$OUT/work.XXXXXX")
trap 'rm -rf "$WORK"' EXIT
ROOT=$WORK/root

# ---- what Debian gives -----------------------------------------------------------------------------

unpack_debs() {
  mkdir -p "$WORK/deb"
  dpkg-deb --fsys-tarfile "$DEBS/kernel.deb" |
    tar -x -C "$WORK/deb" --wildcards './boot/vmlinuz-*' './lib/modules/*'
  dpkg-deb --fsys-tarfile "$DEBS/qemu-guest-agent.deb" | tar -x -C "$WORK/deb" ./usr/sbin/qemu-ga
  KERNEL=$(basename "$WORK"/deb/lib/modules/*)
  # The package brings no modules.dep; Debian makes it where the kernel is installed.
  busybox depmod -b "$WORK/deb" "$KERNEL"
}

module_names() { grep -v '^#' "$SOURCE/modules"; }

# module_files NAME: the module's file and those that it needs; nothing if the kernel has it built in.
# File names have - where modules have _, or not.
module_files() {
  sed -nE "s#^(.*/${1//[-_]/[-_]}\.ko):(.*)#\1\2#p" "$WORK/deb/lib/modules/$KERNEL/modules.dep" | xargs -r -n 1
}

check_module() {
  [[ -n $(module_files "$1") ]] || grep -qE "/${1//[-_]/[-_]}\.ko" "$WORK/deb/lib/modules/$KERNEL/modules.builtin" ||
    fail "kernel $KERNEL has no module $1 (guest/modules)"
}

# ---- the root file system ----------------------------------------------------------------------------

add_modules() {
  local from=$WORK/deb/lib/modules/$KERNEL to=$ROOT/lib/modules/$KERNEL name
  mkdir -p "$to"
  for name in $(module_names); do
    check_module "$name"
    module_files "$name"
  done | sort -u | (cd "$from" && cpio -pdm --quiet "$to")
  cp "$from"/modules.{builtin,order} "$to"
  busybox depmod -b "$ROOT" "$KERNEL"
  module_names > "$ROOT/etc/modules"
}

# add_libraries PROGRAM: puts the shared libraries it asks for where it looks for them.
add_libraries() {
  local library
  if ldd "$1" | grep 'not found'; then fail "this machine lacks the libraries above, which $1 needs"; fi
  for library in $(ldd "$1" | grep -o '/[^ ]*'); do
    install -D "$library" "$ROOT$library"
  done
}

# Where rootfs/ has a command of its own (sbin/poweroff), that one is found first.
add_busybox() {
  local applet
  install -D "$(command -v busybox)" "$ROOT/bin/busybox"
  for applet in $(busybox --list); do
    [[ $applet == busybox ]] || ln -s busybox "$ROOT/bin/$applet"
  done
  ln -s bin/busybox "$ROOT/init"
}

make_root() {
  mkdir -p "$ROOT"/{proc,sys,dev,run,tmp,mnt,root,var/log}
  ln -s ../run "$ROOT/var/run"
  cp -r "$SOURCE/rootfs/." "$ROOT"
  add_busybox
  install -D "$WORK/deb/usr/sbin/qemu-ga" "$ROOT/usr/sbin/qemu-ga"
  add_libraries "$ROOT/usr/sbin/qemu-ga"
  add_modules
}

pack_initrd() {
  (cd "$ROOT" && find . | LC_ALL=C sort | cpio -o -H newc -R 0:0 --quiet) | gzip -1n > "$WORK/initrd.gz"
}

# ---- images --------------------------------------------------------------------------------------------

xorriso_quiet() { xorriso -as mkisofs -quiet "$@" 2>/dev/null; }

# make_iso VARIANT: the label is the variant's name in capitals.
make_iso() {
  local tree=$WORK/$1
  mkdir -p "$tree/isolinux"
  ln "$WORK/vmlinuz" "$WORK/initrd.gz" "$tree"
  cp "$ISOLINUX/isolinux.bin" "$BIOS_MODULES/ldlinux.c32" "$tree/isolinux"
  sed "s/@MODE@/$1/" "$SOURCE/isolinux/isolinux.cfg" > "$tree/isolinux/isolinux.cfg"
  # isohybrid-mbr: bootable as a disk too.
  xorriso_quiet -V "${1^^}" -o "$WORK/$1.iso" -isohybrid-mbr "$ISOLINUX/isohdpfx.bin" \
    -b isolinux/isolinux.bin -c isolinux/boot.cat -no-emul-boot -boot-load-size 4 -boot-info-table "$tree"
}

build() {
  local variant
  unpack_debs
  cp "$WORK"/deb/boot/vmlinuz-* "$WORK/vmlinuz"
  make_root
  pack_initrd
  for variant in "${VARIANTS[@]}"; do make_iso "$variant"; done
  xorriso_quiet -V DATADISC -o "$WORK/data.iso" "$SOURCE/data"
  qemu-img convert -f raw -O qcow2 "$WORK/demo.iso" "$WORK/demo.qcow2"
  # By rename: a running VM keeps the file it has open.
  mv -f "$WORK"/{vmlinuz,initrd.gz,demo.qcow2,*.iso} "$OUT"
}

build
printf 'guest: built in %s s: %s\n' "$SECONDS" "$(cd "$OUT" && echo ./*.iso demo.qcow2)"
