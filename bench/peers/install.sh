#!/bin/sh
# Installs what the peers run on from Debian's packages, unless it is there, without
# starting any service: the benchmark starts servers of its own.
set -eu
need=
command -v redis-server >/dev/null || need="$need redis-server"
command -v wrk >/dev/null || need="$need wrk"
command -v etcd >/dev/null || need="$need etcd-server"
ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 || need="$need postgresql"
[ -z "$need" ] && exit 0
echo "installing$need"
[ "$(id -u)" = 0 ] || { echo "install these first (Debian: apt-get install$need)" >&2; exit 1; }
policy=/usr/sbin/policy-rc.d
if [ ! -e $policy ]; then
  printf '#!/bin/sh\nexit 101\n' >$policy
  chmod +x $policy
  trap 'rm -f $policy' EXIT
fi
{ apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends $need; } >/dev/null
