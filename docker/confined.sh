#!/bin/sh
# confined.sh ROOT COMMAND…: runs the command in ROOT as a container with a read-only root would. Called by check.py, in new namespaces: what is
# mounted here is seen by nobody else and goes with the last process.
set -eu
root=$1
shift

mount --make-rprivate /
mount --bind "$root" "$root"
mount -t proc -o nosuid,nodev,noexec proc "$root/proc"
mount -t tmpfs -o nosuid,nodev,mode=1777,size=64m tmp "$root/tmp"
mount -t tmpfs -o nosuid,mode=755,size=1m dev "$root/dev"
for device in null zero full random urandom; do
    touch "$root/dev/$device"
    mount --bind "/dev/$device" "$root/dev/$device"
done
mkdir "$root/dev/shm"
mount -t tmpfs -o nosuid,nodev,mode=1777,size=64m shm "$root/dev/shm"
mount -o remount,bind,ro "$root"
ip link set lo up
exec chroot "$root" "$@"
