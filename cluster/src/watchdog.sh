# Stops a server that no test uses any more. Runs beside it, started by whoever started it.
#
# $1 the cluster's folder, $2 seconds between looks, $3 looks without a user before it stops.
#
# Users touch the file `lease` again and again. Looks are counted instead of comparing clocks, so
# that a laptop waking up does not look like a day without users. The server's number is read from
# its own file each time, so a restarted server is watched too.

cd "$1" || exit 1
idle=0
: > seen
while pid=$(head -n 1 data/postmaster.pid 2> /dev/null) && kill -0 "$pid" 2> /dev/null; do
    : > watchdog
    sleep "$2"
    if [ lease -nt seen ]; then
        touch -r lease seen
        idle=0
        continue
    fi
    idle=$((idle + 1))
    [ "$idle" -ge "$3" ] || continue
    # A new user touches `lease` and then looks for `stopping`; we do it the other way round. So one
    # of us sees the other, whoever comes first.
    : > stopping
    if [ lease -nt seen ]; then
        rm -f stopping
        continue
    fi
    kill -s INT "$pid"
    # Its number may live on for a while in a parent that does not collect it; its file does not.
    waited=0
    while [ -e data/postmaster.pid ] && [ "$waited" -lt 20 ]; do
        sleep 1
        waited=$((waited + 1))
    done
    rm -f watchdog
    rm -f stopping
    exit 0
done
rm -f watchdog
