# How both halves run test suites and tell about them. Everything told goes to the second serial line.
. /payload/environment
exec >/dev/ttyS1 2>&1 </dev/null
stty -F /dev/ttyS1 -opost
cd /payload || exit
FAILED=/payload/failed

# suite NAME SECONDS BINARY ARGUMENT...
suite() {
    local name=$1 limit=$2 code
    shift 2
    echo "VM-SUITE: $name"
    SECONDS=0
    # Through a pipe: libtest colours what it writes to a terminal.
    timeout -k 10 "$limit" "$@" 2>&1 | cat
    code=${PIPESTATUS[0]}
    echo "VM-SUITE-END: $name $code after $SECONDS s"
    [ "$code" = 0 ] || echo "suite $name" >>$FAILED
}

# The root hands all controllers down (+) or none (-), as a host does that is set up so from the start.
controllers() {
    local word="$1cpu $1io $1memory $1pids"
    echo "$word" >/sys/fs/cgroup/cgroup.subtree_control || echo "controllers $1" >>$FAILED
}

# Nothing of the tests may be left when they are done.
nothing_left() {
    local left
    left=$(find /sys/fs/cgroup -mindepth 1 \( -name 'pt-test*' -o -name 'process-throttler*' \) -type d)
    left="$left$(pgrep -a '^process-thro'; pgrep -a '^pt-')"
    [ -z "$left" ] || { echo "left behind: $left"; echo "clean-up $1" >>$FAILED; }
}

# The last word of the machine.
result() {
    if [ -e $FAILED ]; then
        echo "VM-RESULT: failed: $(paste -sd, $FAILED)"
    else
        echo "VM-RESULT: passed"
    fi
}
