#!/bin/sh
# Redis as the service needs it: nothing acknowledged is lost (append-only, fsync always), nothing evicted, one
# user who may do all but administer the server. For compose.*.yaml; REDIS_PASSWORD comes from the environment.
set -eu
case "${REDIS_PASSWORD:?}" in
    *[!A-Za-z0-9._~-]*) echo "REDIS_PASSWORD may have letters, digits and . _ ~ - only: it is part of a URL" >&2; exit 2 ;;
esac
umask 077
# Behind the minus signs is what could harm the server or others on it; INFO is for Celery and Flower.
# Nobody can be the user "default", but it must be allowed everything: the server itself is it while it reads its
# append-only file, and leaves out every transaction that it may not do. Without that a restart loses all jobs.
cat > /tmp/users.acl <<ACL
user default off ~* &* +@all
user service on >$REDIS_PASSWORD ~* &* +@all -@admin -@dangerous +info
ACL
# Below the container's limit: a full server refuses writes, and all wait; one that is killed would only be killed again.
exec redis-server --dir /data --appendonly yes --appendfsync always --maxmemory-policy noeviction --save '' \
    --aclfile /tmp/users.acl --maxmemory "${REDIS_MAXMEMORY:-600mb}"
