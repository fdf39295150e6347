"""Where the store lies: on what file system, with how much room, open to whom."""

import os
import pwd
import re
import stat
from pathlib import Path
from typing import Final

from jobrunner import mounts, sizes
from jobrunner.doctor.findings import Told, ok, serious, warning
from jobrunner.doctor.situation import Situation
from jobrunner.mounts import Mount

SERIOUS_BYTES: Final = 64 << 20  #: of free space: less than one checkpoint and a few results
WARNING_BYTES: Final = 1 << 30
WARNING_SHARE: Final = 0.05
FEW_INODES: Final = 1000
NO_INODES: Final = 4  #: as many files as the store makes
#: where a lock, or memory that processes share, does not reach from one machine to the other
REMOTE: Final = re.compile(
    r"nfs4?|cifs|smb3|smbfs|9p|afs|ceph|coda|davfs|lustre|beegfs|gpfs|glusterfs|orangefs|vboxsf|prl_fs|virtiofs"
    r"|fuse\.(sshfs|glusterfs|ceph|ceph-fuse|s3fs|gcsfuse|goofys|rclone|juicefs|blobfuse2?|vmhgfs-fuse|mount_davfs)"
)
MEMORY: Final = frozenset({"tmpfs", "ramfs", "rootfs"})


def mount_of(directory: Path, mountinfo: str) -> Mount:
    """Return what `directory`, which is resolved, lies on; of two at one place the later hides the earlier."""
    holds = [one for one in mounts.read(mountinfo) if directory.is_relative_to(one.point)]
    return max(enumerate(holds), key=lambda pair: (len(pair[1].point.parts), pair[0]))[1]


def kind(situation: Situation) -> Told:
    """On what the store lies."""
    yield from judged_kind(situation.directory, mount_of(situation.directory, mounts.mountinfo()))


def judged_kind(directory: Path, mount: Mount) -> Told:
    """Judge what `directory` lies on."""
    if REMOTE.fullmatch(mount.kind):
        yield serious(
            f"{directory} is on {mount.kind}: SQLite's locks do not hold there; put `data` on a local disk"
        )
    elif "ro" in mount.options:
        yield serious(
            f"{directory} is on {mount.point}, which is mounted read-only: "
            f"nothing can be stored; mount -o remount,rw {mount.point}, or put `data` elsewhere"
        )
    elif mount.kind in MEMORY:
        yield warning(
            f"{directory} is on {mount.kind}, in memory: no job survives a reboot; put `data` on a disk"
        )
    elif mount.kind == "overlay":
        yield warning(
            f"{directory} is on an overlay: if it is a container's, the jobs go with it; put `data` on a volume"
        )
    else:
        yield ok(f"{directory} is on {mount.kind}, mounted at {mount.point}")


def room(situation: Situation) -> Told:
    """Whether there is room for what jobs will say."""
    yield from judged_room(situation.directory, os.statvfs(situation.directory))


def judged_room(directory: Path, disk: os.statvfs_result) -> Told:
    """Judge what is left on the disk of `directory`."""
    free, all_of_it = disk.f_bavail * disk.f_frsize, disk.f_blocks * disk.f_frsize
    said = f"{sizes.in_words(free)} are free for {directory}"
    remedy = "make room, or shorten keep_succeeded and keep_failed"
    if free < SERIOUS_BYTES:
        yield serious(f"{said}: submissions are about to be refused; {remedy}")
    elif free < max(WARNING_BYTES, WARNING_SHARE * all_of_it):
        yield warning(f"{said}, of {sizes.in_words(all_of_it)}; {remedy}")
    else:
        yield ok(said)
    if disk.f_files and disk.f_favail < FEW_INODES:  # some file systems count none
        grade = serious if disk.f_favail < NO_INODES else warning
        yield grade(f"{disk.f_favail} more files can be made on the disk of {directory} (df -i): remove some")


def access(situation: Situation) -> Told:
    """Who may read and write the store."""
    directory = situation.directory
    if directory != situation.home:
        yield ok(f"the store's directory is made at the first start, in {directory}")
        return
    files = [directory, *(sorted(directory.glob(f"{situation.store.path.resolve().name}*")))]
    user = _uid(situation.unit.user) if situation.unit_serves else _owner(files)
    found = [*_of_others(files, user), *_of_this_user(directory, user), *_open_to_all(files)]
    yield from found or [ok(f"{directory} belongs to {_name(user)}, and others cannot read it")]


def _owner(files: list[Path]) -> int:
    """Return whose the store is: the directory's owner, unless everybody makes files in there."""
    shared = files[0].stat().st_mode & stat.S_ISVTX
    return files[1 if shared and len(files) > 1 else 0].stat().st_uid


def _of_others(files: list[Path], user: int) -> Told:
    """What the user of the service cannot write; root can write all."""
    for path in files if user else ():
        found = path.stat()
        if found.st_uid != user and not found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            yield serious(
                f"{path} belongs to {_name(found.st_uid)}, and {_name(user)} cannot write it: "
                f"chown -R {_name(user)} {files[0]}"
            )
            return


def _of_this_user(directory: Path, user: int) -> Told:
    uid = os.geteuid()
    if uid not in {0, user}:
        yield warning(
            f"you are {_name(uid)}, the store in {directory} is {_name(user)}'s, for whom all may be different: "
            f"runuser -u {_name(user)} -- jobrunner doctor"
        )
    elif not os.access(directory, os.W_OK | os.X_OK) and not os.statvfs(directory).f_flag & os.ST_RDONLY:
        yield serious(f"{_name(uid)} cannot write {directory}: chmod u+rwx {directory}")


def _open_to_all(files: list[Path]) -> Told:
    directory = files[0]
    # A directory above that is closed closes all below.
    if not all(_has(path, stat.S_IXOTH) for path in (directory, *directory.parents)):
        return
    if open_to_all := [path for path in files if _has(path, stat.S_IWOTH) and not _has(path, stat.S_ISVTX)]:
        yield serious(f"everybody on this machine can change {open_to_all[0]}: chmod o-w {open_to_all[0]}")
    elif any(_has(path, stat.S_IROTH) for path in files[1:]):
        said = "everybody on this machine can read the jobs and their results"
        yield warning(f"{said}: chmod o-rwx {directory}/{files[1].name}*")


def _has(path: Path, bit: int) -> bool:
    return bool(path.stat().st_mode & bit)


def _uid(name: str) -> int:
    return int(name) if name.isdecimal() else pwd.getpwnam(name).pw_uid


def _name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:  # a user of a container, or one that was removed
        return f"user {uid}"
