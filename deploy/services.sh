#!/usr/bin/env bash
# What the integration tests talk to, on loopback, with folders of its own under .services/:
#   ClickHouse server (Debian's package)   native protocol on 127.0.0.1:19000
#   Redis                                  127.0.0.1:16379
#   PostgreSQL (user and password dagster) 127.0.0.1:15432, empty at each start
# `bash deploy/services.sh` installs what is missing and starts what is not running; `… stop` ends what it started.
# A second argument, clickhouse, redis or postgres, means only that one. Elsewhere: SERVICES_ROOT (folder),
# SERVICES_CLICKHOUSE_PORT, SERVICES_REDIS_PORT, SERVICES_POSTGRES_PORT.
set -euo pipefail
cd "$(dirname "$0")/.."

root=${SERVICES_ROOT:-$PWD/.services}
clickhouse_port=${SERVICES_CLICKHOUSE_PORT:-19000}
redis_port=${SERVICES_REDIS_PORT:-16379}
postgres_port=${SERVICES_POSTGRES_PORT:-15432}

say() { echo "services: $*"; }

# Debian keeps PostgreSQL's programs in a folder for each of its versions.
postgres_programs() { ls -d /usr/lib/postgresql/*/bin 2>/dev/null | sort -V | tail -n 1; }

# Installs a Debian package where its command is missing; never starts the package's own service.
need() {
  local package=$1 command=$2
  PATH=$PATH:/usr/sbin:$(postgres_programs) command -v "$command" >/dev/null && return
  command -v apt-get >/dev/null || { say "$command is missing and there is no apt-get: install it by hand" >&2; exit 1; }
  local sudo=""
  [ "$(id -u)" = 0 ] || sudo=sudo
  say "installing $package"
  [ -n "${updated:-}" ] || $sudo apt-get update -qq
  updated=yes
  $sudo env DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 \
    apt-get install -y -qq --no-install-recommends "$package" >/dev/null
}

running() { [ -f "$1" ] && kill -0 "$(cat "$1")" 2>/dev/null; }

answers() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

# A server that is not ours would be taken for the one that is started here.
check_free() {
  answers "$2" || return 0
  say "port $2 is taken by something else: stop that, or set SERVICES_$1_PORT" >&2
  exit 1
}

# Waits until a port answers, or ends with the log of what did not start.
await() {
  local name=$1 port=$2 log=$3
  for _ in $(seq 150); do
    answers "$port" && { say "$name on 127.0.0.1:$port"; return; }
    sleep 0.2
  done
  say "$name did not start on port $port; the end of $log:" >&2
  tail -n 20 "$log" >&2
  exit 1
}

# Its time zone is not UTC on purpose: types without a zone of their own must come out right all the same.
clickhouse_config() {
  cat > "$1/config.xml" <<XML
<yandex>
  <logger><level>warning</level><log>$1/server.log</log><errorlog>$1/server.err.log</errorlog></logger>
  <listen_host>127.0.0.1</listen_host>
  <tcp_port>$clickhouse_port</tcp_port>
  <path>$1/data/</path>
  <tmp_path>$1/tmp/</tmp_path>
  <user_files_path>$1/user_files/</user_files_path>
  <users_config>users.xml</users_config>
  <default_profile>default</default_profile>
  <default_database>default</default_database>
  <timezone>Europe/Berlin</timezone>
  <mark_cache_size>268435456</mark_cache_size>
  <max_concurrent_queries>50</max_concurrent_queries>
  <query_log><database>system</database><table>query_log</table><flush_interval_milliseconds>1000</flush_interval_milliseconds></query_log>
</yandex>
XML
  # `tests` may write; `reader` is a user as production has it; `locked` may not even set limits.
  cat > "$1/users.xml" <<XML
<yandex>
  <profiles>
    <default><max_memory_usage>2000000000</max_memory_usage></default>
    <readonly2><readonly>2</readonly></readonly2>
    <readonly1><readonly>1</readonly></readonly1>
  </profiles>
  <users>
    <default><password></password><networks><ip>127.0.0.1</ip></networks><profile>default</profile><quota>default</quota></default>
    <reader><password>p@ss/w:rd</password><networks><ip>127.0.0.1</ip></networks><profile>readonly2</profile><quota>default</quota></reader>
    <locked><password></password><networks><ip>127.0.0.1</ip></networks><profile>readonly1</profile><quota>default</quota></locked>
  </users>
  <quotas><default></default></quotas>
</yandex>
XML
}

start_clickhouse() {
  local home=$root/clickhouse
  running "$home/pid" && answers "$clickhouse_port" && { say "ClickHouse already on 127.0.0.1:$clickhouse_port"; return; }
  check_free CLICKHOUSE "$clickhouse_port"
  need clickhouse-server clickhouse-server
  mkdir -p "$home"/{data,tmp,user_files}
  clickhouse_config "$home"
  # The pid outlives the execs; the server itself writes none unless it forks into the background.
  (cd "$home" && echo "$BASHPID" >pid && PATH=$PATH:/usr/sbin exec setsid nohup clickhouse-server \
    --config-file="$home/config.xml" >stdout 2>&1 </dev/null &)
  await ClickHouse "$clickhouse_port" "$home/stdout"
}

start_redis() {
  local home=$root/redis
  running "$home/pid" && answers "$redis_port" && { say "Redis already on 127.0.0.1:$redis_port"; return; }
  check_free REDIS "$redis_port"
  need redis-server redis-server
  mkdir -p "$home"
  redis-server --bind 127.0.0.1 --port "$redis_port" --dir "$home" --pidfile "$home/pid" --daemonize yes \
    --save '' --appendonly no --logfile "$home/log" >/dev/null
  await Redis "$redis_port" "$home/log"
}

# PostgreSQL refuses to run as root, so there it is Debian's user postgres, in a folder that it can reach.
start_postgres() {
  local home=$root/postgres as=()
  running "$home/pid" && answers "$postgres_port" && { say "PostgreSQL already on 127.0.0.1:$postgres_port"; return; }
  check_free POSTGRES "$postgres_port"
  need postgresql postgres
  [ "$(id -u)" != 0 ] || as=(runuser -u postgres --)
  mkdir -p "$home"
  drop_postgres
  local programs data
  programs=$(postgres_programs)
  data=$(cd / && "${as[@]}" mktemp -d /tmp/endpoints-postgres-XXXXXXXX)
  echo "$data" >"$home/folder"
  "${as[@]}" sh -c 'cd "$1" && printf dagster >password && chmod 600 password && "$2/initdb" -D "$1/data" -U dagster \
    --pwfile=password --auth=scram-sha-256 --encoding=UTF8 --locale=C.UTF-8 --no-sync >init.log 2>&1 || { cat init.log >&2; exit 1; }
    exec "$2/pg_ctl" -D "$1/data" -l "$1/log" -w -s -o "-p $3 -c listen_addresses=127.0.0.1 -c unix_socket_directories= \
    -c fsync=off -c max_connections=200" start' sh "$data" "$programs" "$postgres_port"
  head -n 1 "$data/data/postmaster.pid" >"$home/pid"
  await PostgreSQL "$postgres_port" "$data/log"
}

# Takes away what a server before it has left.
drop_postgres() {
  local folder=$root/postgres/folder
  [ -f "$folder" ] || return 0
  case $(cat "$folder") in /tmp/endpoints-postgres-*) rm -rf "$(cat "$folder")" ;; esac
  rm -f "$folder"
}

stop_one() {
  local name=$1 pid_file=$2
  running "$pid_file" || return 0
  local pid
  pid=$(cat "$pid_file")
  kill "$pid" 2>/dev/null || true
  for _ in $(seq 50); do kill -0 "$pid" 2>/dev/null || break; sleep 0.1; done
  kill -9 "$pid" 2>/dev/null || true
  rm -f "$pid_file"
  say "$name stopped"
}

case "${1:-start} ${2:-all}" in
  "start all") start_clickhouse; start_redis; start_postgres ;;
  "start clickhouse") start_clickhouse ;;
  "start redis") start_redis ;;
  "start postgres") start_postgres ;;
  "stop all") stop_one ClickHouse "$root/clickhouse/pid"; stop_one Redis "$root/redis/pid"; stop_one PostgreSQL "$root/postgres/pid"; drop_postgres ;;
  "stop clickhouse") stop_one ClickHouse "$root/clickhouse/pid" ;;
  "stop redis") stop_one Redis "$root/redis/pid" ;;
  "stop postgres") stop_one PostgreSQL "$root/postgres/pid"; drop_postgres ;;
  *) echo "usage: deploy/services.sh [start|stop] [clickhouse|redis|postgres]" >&2; exit 2 ;;
esac
