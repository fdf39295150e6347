#!/bin/bash
# Becomes the systemd of a throw-away machine, whose files are those of this one.
#
#   box.sh DIR CGROUP    to be run by unshare(1) in new namespaces: mount, pid, uts, ipc, net, cgroup
#
# Of this machine nothing is written: every change lands in an overlay that lives in memory, and dies with the box.
# DIR/share appears inside as /run/share; what is mounted on DIR/bind/NAME is found at /opt/box/NAME.
set -euo pipefail
dir=$1
hostname box
ip link set lo up

mkdir -p "$dir/root"
mount -t tmpfs -o mode=755 tmpfs "$dir/root"
mkdir "$dir/root/upper" "$dir/root/work" "$dir/root/merged"
mount -t overlay overlay -o "lowerdir=/,upperdir=$dir/root/upper,workdir=$dir/root/work" "$dir/root/merged"
root=$dir/root/merged

# The kernel is this machine's, so its switches are read-only.
mount -t proc -o nosuid,nodev,noexec proc "$root/proc"
mount --bind "$root/proc/sys" "$root/proc/sys"
mount -o remount,bind,ro "$root/proc/sys"
if [ -e "$root/proc/sysrq-trigger" ]; then mount --bind /dev/null "$root/proc/sysrq-trigger"; fi
mount -t sysfs -o ro,nosuid,nodev,noexec sysfs "$root/sys"
mount -t cgroup2 cgroup2 "$root/sys/fs/cgroup"

mount -t tmpfs -o mode=755,nosuid tmpfs "$root/dev"
for device in null zero full random urandom tty; do
    touch "$root/dev/$device"
    mount --bind "/dev/$device" "$root/dev/$device"
done
mkdir "$root/dev/pts" "$root/dev/shm"
mount -t devpts -o newinstance,ptmxmode=0666,mode=620,gid=5 devpts "$root/dev/pts"
mount -t tmpfs -o mode=1777 tmpfs "$root/dev/shm"
ln -s pts/ptmx "$root/dev/ptmx"
ln -s /proc/self/fd "$root/dev/fd"
ln -s fd/0 "$root/dev/stdin"
ln -s fd/1 "$root/dev/stdout"
ln -s fd/2 "$root/dev/stderr"

mount -t tmpfs -o mode=755 tmpfs "$root/run"
mount -t tmpfs -o mode=1777 tmpfs "$root/tmp"
mkdir "$root/run/share"
mount --bind "$dir/share" "$root/run/share"
for place in "$dir"/bind/*; do
    inside=$root/opt/box/$(basename "$place")
    mkdir -p "$inside"
    mount --bind "$(readlink -f "$place")" "$inside"
    mount -o remount,bind,ro "$inside"
done

# Nothing that this machine starts at boot, no journal of its own, no hardware.
rm -rf "$root"/etc/systemd/system/*.wants "$root/var/log/journal"
: >"$root/etc/fstab"
for unit in systemd-{resolved,networkd,timesyncd,udevd,logind,random-seed}.service; do
    ln -sf /dev/null "$root/etc/systemd/system/$unit"
done
echo 0123456789abcdef0123456789abcdef >"$root/etc/machine-id"

mkdir "$root/run/outside"
cd "$root"
pivot_root . run/outside
# shellcheck disable=SC2016
exec chroot . /bin/bash -c '
    umount -l /run/outside
    rmdir /run/outside
    mount --make-rshared /
    bounding=-sys_module,-sys_time,-sys_rawio,-sys_boot,-syslog,-mac_admin,-mac_override
    exec setpriv --bounding-set "$bounding" \
        env -i container=box PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin LANG=C.UTF-8 \
        /lib/systemd/systemd --system --unit=basic.target --show-status=no'
