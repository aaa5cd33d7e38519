# Cleans up after the last test process. Arguments: the services directory, the checkout's id.
# See services.rs.
dir=$1
checkout=$2
exec 8>>"$dir/reaper" 9>>"$dir/users"
flock -n -x 8 || exit 0
idle=0
while [ "$idle" -lt 3 ]; do
    sleep 1
    [ -e "$dir/users" ] || exit 0
    if flock -n -x 9; then
        idle=$((idle + 1))
        [ "$idle" -ge 3 ] || flock -u 9
    else
        idle=0
    fi
done
# The exclusive lock on `users` is held: a test that starts now waits and then finds a new directory.
if [ -s "$dir/postgres/postmaster.pid" ]; then
    kill -QUIT "$(head -n 1 "$dir/postgres/postmaster.pid")" 2>/dev/null
fi
label="label=plimsoll.test.checkout=$checkout"
if command -v docker >/dev/null 2>&1; then
    docker ps -aq --no-trunc --filter "$label" | xargs -r docker rm -f -v
    docker volume ls -q --filter "$label" | xargs -r docker volume rm -f
    docker network ls -q --no-trunc --filter "$label" | xargs -r docker network rm
    docker images -aq --no-trunc --filter "$label" | sort -u | xargs -r docker rmi -f
fi >/dev/null 2>&1 8>&- 9>&-
rm -rf "$dir"
