#!/bin/bash
# Becomes the systemd of a throw-away machine, whose files are those of this one.
#
#   box.sh DIR LOWER [CONTROLLER...]    to be run by unshare(1) in new namespaces: mount, pid, uts, ipc, net, cgroup
#
# Of this machine nothing is written: every change lands on a disk in memory, mounted on DIR/root, which overlays the
# directories LOWER.  DIR/share appears inside as /run/share; what DIR/bind/NAME links to is found at /opt/box/NAME.
# With CONTROLLERs its cgroups are those of version 1, and the limits of these controllers hold.
set -euo pipefail
dir=$1
lower=$2
shift 2
hostname box
ip link set lo up

mount -t overlay overlay -o "lowerdir=$lower,upperdir=$dir/root/upper,workdir=$dir/root/work" "$dir/root/merged"
root=$dir/root/merged

# The kernel is this machine's, so its switches are read-only.
mount -t proc -o nosuid,nodev,noexec proc "$root/proc"
mount --bind "$root/proc/sys" "$root/proc/sys"
mount -o remount,bind,ro "$root/proc/sys"
if [ -e "$root/proc/sysrq-trigger" ]; then mount --bind /dev/null "$root/proc/sysrq-trigger"; fi
mount -t sysfs -o ro,nosuid,nodev,noexec sysfs "$root/sys"
if [ $# = 0 ]; then
    mount -t cgroup2 cgroup2 "$root/sys/fs/cgroup"
else
    mount -t tmpfs -o mode=755 tmpfs "$root/sys/fs/cgroup"
    for controller; do
        mkdir "$root/sys/fs/cgroup/$controller"
        option=$controller
        if [ "$controller" = systemd ]; then option=none,name=systemd; fi
        mount -t cgroup -o "$option" cgroup "$root/sys/fs/cgroup/$controller"
    done
fi

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

# Each boot has an id; the kernel's own is that of this machine's boot.
cat /proc/sys/kernel/random/uuid >"$root/run/boot_id"
mount --bind "$root/run/boot_id" "$root/proc/sys/kernel/random/boot_id"

if [ ! -e "$root/etc/box" ]; then
    # The first boot: nothing that this machine starts at boot, no journal of its own, no hardware.
    touch "$root/etc/box"
    rm -rf "$root"/etc/systemd/system/*.wants "$root/var/log/journal"
    : >"$root/etc/fstab"
    for unit in systemd-{resolved,networkd,timesyncd,udevd,logind,random-seed}.service dbus.{service,socket} getty.target; do
        ln -sf /dev/null "$root/etc/systemd/system/$unit"
    done
    echo 0123456789abcdef0123456789abcdef >"$root/etc/machine-id"
fi

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
        /lib/systemd/systemd --system --unit=multi-user.target --show-status=no'
