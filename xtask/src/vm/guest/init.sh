#!/bin/bash
# PID 1 of the first half: a host without a service manager, whose root cgroup belongs to nobody. Then it
# becomes systemd, which runs the second half.
export PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mountpoint -q /dev || mount -t devtmpfs dev /dev
mkdir -p /dev/pts /dev/shm
mount -t devpts devpts /dev/pts
mount -t tmpfs tmpfs /dev/shm
mount -t tmpfs -o mode=755 tmpfs /run
mount -t tmpfs tmpfs /tmp
mount -t cgroup2 -o nsdelegate cgroup2 /sys/fs/cgroup
ip link set lo up
# As every host has it.
grep -q localhost /etc/hosts 2>/dev/null || echo '127.0.0.1 localhost' >>/etc/hosts
# A block device, for limits on block devices.
modprobe null_blk nr_devices=1 gb=1
. /payload/suites.sh
mkdir -p "$WORKSPACE"
mount --bind /payload/workspace "$WORKSPACE"
. /payload/plain.sh
umount "$WORKSPACE"
umount /sys/fs/cgroup /tmp /run /dev/shm /dev/pts
cd /
exec env -i /sbin/init
