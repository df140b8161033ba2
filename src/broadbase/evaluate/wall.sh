# Started by sandbox.py as the root user of new namespaces:
#   wall.sh ROOT BYTES FILES PREFIX USER COMMAND...
# Runs a command in a tree of files of its own, made at ROOT, without any capability. The tree holds
# the system's libraries and Python (PREFIX), read-only, and an empty /tmp for BYTES and FILES.
# USER holds the options of setpriv that change the user; it may be empty.
set -eu
umask 022
root=$1 bytes=$2 files=$3 prefix=$4 user=$5
shift 5

mount -t tmpfs -o size=1m,nr_inodes=1k,mode=755,nosuid,nodev tmpfs "$root"
mkdir "$root/proc" "$root/tmp" "$root/etc"
mount -t proc -o ro,nosuid,nodev,noexec,subset=pid proc "$root/proc" || : # then it has no /proc
mount -t tmpfs -o "size=$bytes,nr_inodes=$files,mode=1777,nosuid,nodev,noexec" tmpfs "$root/tmp"
cp /etc/ld.so.cache "$root/etc" || :
for path in /usr /bin /lib /lib64 "$prefix"; do
  if [ -L "$path" ]; then
    cp -P "$path" "$root$path"
  elif [ -d "$path" ]; then
    mkdir -p "$root$path"
    mount --bind -o ro,nosuid,nodev "$path" "$root$path"
  fi
done
mount -o remount,bind,ro "$root"
exec chroot "$root" setpriv $user --no-new-privs --inh-caps=-all --bounding-set=-all \
  --pdeathsig KILL "$@"
