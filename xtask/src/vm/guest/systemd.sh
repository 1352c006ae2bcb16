#!/bin/bash
# The second half, as a service that starts when the boot is complete.
export PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root
. /payload/suites.sh
. /payload/managed.sh
result
exec systemctl poweroff --force --force
